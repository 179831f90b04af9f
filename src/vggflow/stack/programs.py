"""What the stack runs: PostgreSQL, MLflow with users, Prefect with its background services, one worker."""

import os
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import requests

from vggflow.environment import WORKSPACE
from vggflow.files import write_text
from vggflow.processes.servers import LOCALHOST, POOL, answers
from vggflow.stack import log_ins, postgres
from vggflow.stack.choices import Place
from vggflow.stack.postgres import Installation
from vggflow.stack.supervisor import Program

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# A database writes down what it has in memory; killed, it has to recover at the next start.
SECONDS_FOR_THE_DATABASE = 120.0
# Comparing a password takes MLflow half a second, several times in a request: who was right is believed for a minute.
AUTH_CONFIG = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {}
auth_cache_ttl_seconds = 60
"""


def database(place: Place, installed: Installation) -> Program:
    """PostgreSQL, on this machine only and with a password."""
    port = place.choices.ports["postgresql"]
    return Program(
        "postgresql",
        postgres.command(installed, place.folder / "postgres", port),
        {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        lambda: postgres.answers(installed, port),
        signal.SIGINT,  # ends without waiting for those who are connected
        postgres.as_account(),
        SECONDS_FOR_THE_DATABASE,
    )


def mlflow(place: Place) -> Program:
    """MLflow's server, which asks everybody for a name and password and gives nothing to those without a role."""
    runs, users = _mlflow_databases(place)
    config = place.folder / "mlflow-auth.ini"
    write_text(config, AUTH_CONFIG.format(users), private=True)
    given = {
        "MLFLOW_BACKEND_STORE_URI": runs,
        "MLFLOW_ARTIFACTS_DESTINATION": str(place.folder / "artifacts"),
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": log_ins.ADMINISTRATOR,
        "MLFLOW_AUTH_ADMIN_PASSWORD": place.passwords["mlflow_admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": place.passwords["mlflow_cookies"],
        "MLFLOW_ENABLE_WORKSPACES": "true",  # without, everybody may make experiments and models
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # queues for language models: processes for nothing
    }
    if place.choices.database is not None:
        given |= _login_to_postgresql(place)
    options = ("--app-name", "basic-auth", "--workers", "1")
    return Program(
        "mlflow",
        (sys.executable, "-m", "mlflow", "server", *_address(place, "mlflow"), *options),
        _environment() | given,
        lambda: answers(f"{place.url('mlflow')}/health"),
    )


def prefect(place: Place) -> Program:
    """Prefect's API, user interface and background services in one process: events stay in its memory."""
    in_postgresql = place.choices.prefect_in_postgresql
    given = {
        "PREFECT_HOME": str(place.folder / "prefect"),
        "PREFECT_API_URL": f"{place.url('prefect')}/api",
        "PREFECT_SERVER_UI_API_URL": f"{place.url('prefect')}/api",
        # By default any page in a person's browser may ask this server.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": place.url("prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": log_ins.prefect_login(place),
        # In memory, the default, a restarted server forgets who has a run lock: waiting runs would wait for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if in_postgresql:
        login = f"{postgres.USER}:{place.passwords['postgresql']}"
        address = f"{LOCALHOST}:{place.choices.ports['postgresql']}"
        given["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{login}@{address}/prefect"
    return Program(
        "prefect",
        (sys.executable, "-m", "prefect", "server", "start", *_address(place, "prefect")),
        _environment() | given,
        lambda: answers(f"{place.url('prefect')}/api/health"),
    )


def worker(place: Place) -> Program:
    """A worker that runs flows as processes here, logged in to MLflow as a user of its own."""
    started = datetime.now(UTC)
    login = log_ins.variables(place, log_ins.WORKER, place.passwords["worker"])
    given = {"PREFECT_HOME": str(place.folder / "prefect"), WORKSPACE: str(place.workspace.root)}
    name = f"{socket.gethostname()}-{place.workspace.name}"
    return Program(
        "worker",
        (
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            POOL,
            "--type",
            "process",
            "--name",
            name,
        ),
        _environment() | login | given,
        lambda: _has_worker(place, started),
    )


def _address(place: Place, name: str) -> tuple[str, ...]:
    return ("--host", LOCALHOST, "--port", str(place.choices.ports[name]))


def _mlflow_databases(place: Place) -> tuple[str, str]:
    """Where runs and models are, and where users are. PostgreSQL's log-in stands in the environment only."""
    if place.choices.database is None:
        return f"sqlite:///{place.folder / 'mlflow.db'}", f"sqlite:///{place.folder / 'users.db'}"
    return "postgresql+psycopg2:///mlflow", "postgresql+psycopg2:///mlflow_auth"


def _login_to_postgresql(place: Place) -> dict[str, str]:
    return {
        "PGHOST": LOCALHOST,
        "PGPORT": str(place.choices.ports["postgresql"]),
        "PGUSER": postgres.USER,
        "PGPASSWORD": place.passwords["postgresql"],
    }


def _environment() -> dict[str, str]:
    """The surroundings of `vggflow up`, with this Python's programs first and less chatter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Unbuffered: the last lines of a program that is killed say why.
    return {**os.environ, **QUIET, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _has_worker(place: Place, since: datetime) -> bool:
    """Whether a worker of the pool reported after a moment; Prefect takes minutes to miss one that is gone."""
    address = f"{place.url('prefect')}/api/work_pools/{POOL}/workers/filter"
    name, _, password = log_ins.prefect_login(place).partition(":")
    with requests.Session() as session:
        session.trust_env = False  # it is on this machine
        try:
            answer = session.post(address, json={}, auth=(name, password), timeout=10)
        except requests.RequestException:
            return False
    seen = answer.json() if answer.ok else []
    return any(datetime.fromisoformat(each["last_heartbeat_time"]) >= since for each in seen)
