"""The programs beside vggflow: flows in a process of their own, and the servers of MLflow and Prefect."""

import os
import socket
import subprocess
import sys

from honcho.manager import Manager
from honcho.printer import Printer

from vggflow import artifacts
from vggflow.console import say
from vggflow.workspace import Workspace

LOCALHOST = "127.0.0.1"


def run_flow(workspace: Workspace, arguments: list[str]) -> int:
    """Runs `python -m flows …` and returns its exit code; Ctrl-C reaches it as it reaches us."""
    process = subprocess.Popen([sys.executable, "-m", "flows", *arguments], env=environment(workspace))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the flow got it too, and ends in its own time


def environment(workspace: Workspace) -> dict[str, str]:
    """Prefect's own server inside this workspace, unless `PREFECT_API_URL` names one; MLflow likewise."""
    defaults = {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    if "PREFECT_API_URL" not in os.environ:
        defaults["PREFECT_HOME"] = str(workspace.path(artifacts.PREFECT_HOME))
    return defaults | os.environ


def show(workspace: Workspace) -> int:
    """Serves the user interfaces of MLflow and Prefect on free ports until Ctrl-C."""
    mlflow_port, prefect_port = free_ports(2)
    database = f"sqlite:///{workspace.path(artifacts.MLFLOW_DATABASE)}"
    store = workspace.path(artifacts.MLFLOW_ARTIFACTS)
    manager = Manager(Printer(sys.stdout, prefix=True))
    python = f"{sys.executable} -m"
    manager.add_process(
        "mlflow",
        f"{python} mlflow server --host {LOCALHOST} --port {mlflow_port} --workers 1 "
        f"--backend-store-uri {database} --artifacts-destination {store}",
        env=environment(workspace),
    )
    manager.add_process(
        "prefect",
        f"{python} prefect server start --host {LOCALHOST} --port {prefect_port}",
        env=environment(workspace),
    )
    say(f"MLflow   http://{LOCALHOST}:{mlflow_port}")
    say(f"Prefect  http://{LOCALHOST}:{prefect_port}")
    say("Ctrl-C stops both")
    manager.loop()
    return 0 if manager.returncode in (None, 0, 130) else 1


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
