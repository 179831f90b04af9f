"""Brings the servers of a workspace up, says where they are, and takes them down again."""

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import suppress

from vggflow import artifacts
from vggflow.console import say, tell
from vggflow.credentials import print_openly
from vggflow.errors import UsageError, VggflowError
from vggflow.processes.locks import if_free
from vggflow.processes.stage import last_error_line
from vggflow.stack import log_ins, postgres, programs
from vggflow.stack.choices import PASSWORDS, Place, check_ports, folder_of, open_place
from vggflow.stack.supervisor import Supervisor, supervising
from vggflow.workspace import Workspace

# Without it MLflow's server ends with a traceback in its log.
NEEDED = {"flask_wtf": "users in MLflow"}


def up(workspace: Workspace, *, show_passwords: bool = False) -> int:
    """Runs the servers until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        UsageError: they run already, or a package is missing.
        VggflowError: a port is taken, or a server does not start or dies too often.
    """
    _check_packages()
    folder = folder_of(workspace)
    with if_free(folder / log_ins.LOCK) as free:
        if not free:
            raise UsageError(
                f"the servers of this workspace run already: use them with `source {folder / log_ins.FILE}`, "
                "or end that `vggflow up` first"
            )
        # With the lock held: two at once would each make passwords and choose ports.
        place = open_place(workspace)
        with suppress(KeyboardInterrupt), supervising(place.folder) as supervisor:
            # After what an earlier one left was ended, which had these ports.
            check_ports(place)
            _start(place, supervisor)
            _announce(place, show_passwords=show_passwords)
            supervisor.watch()
        tell("stopped; everything is kept for the next `vggflow up`")
    return 0


def _check_packages() -> None:
    missing = [f"{name} ({why})" for name, why in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the servers need packages that are not installed: {', '.join(missing)}; "
            "run pip install 'vggflow[server]'"
        )


def _start(place: Place, supervisor: Supervisor) -> None:
    """Databases first, then both servers at once, then users and work pool, then the worker."""
    if place.choices.database is not None:
        _start_database(place, supervisor)
    mlflow, prefect = programs.mlflow(place), programs.prefect(place)
    for program in (mlflow, prefect):
        tell(f"starting {program.name}")
        supervisor.start(program)
    supervisor.wait(mlflow)
    _set_users_up(place)
    supervisor.wait(prefect)
    _make_work_pool(place)
    worker = programs.worker(place)
    tell("starting worker")
    supervisor.start(worker)
    supervisor.wait(worker)


def _start_database(place: Place, supervisor: Supervisor) -> None:
    data = place.folder / "postgres"
    installed = postgres.installed_for(place.folder, place.choices.database or 0)
    postgres.create(installed, data, place.passwords["postgresql"])
    program = programs.database(place, installed)
    tell(f"starting {program.name} {installed.version} in {data}")
    supervisor.start(program)
    supervisor.wait(program)
    postgres.ensure_databases(installed, place.choices.ports["postgresql"], place.passwords["postgresql"])


def _set_users_up(place: Place) -> None:
    """Roles of this workspace's models, a user for the worker and one for the person, in a process of its own.

    The worker may promote only where a flow may: with `promotion.approval: required` its log-in can't, whatever runs
    under it.
    """
    automatic = place.workspace.settings().promotion.approval == "automatic"
    users = {
        log_ins.WORKER: {
            "role": "promoter" if automatic else "trainer",
            "password": place.passwords["worker"],
        },
        log_ins.person(): {"role": "promoter", "password": place.passwords["person"]},
    }
    arguments = ("vggflow.tracking.users", "-C", str(place.workspace.root), "apply", "-")
    # By stdin: everybody can read command lines.
    _as_administrator(
        place, "MLflow's users could not be set up", *arguments, given=json.dumps({"users": users})
    )


def _make_work_pool(place: Place) -> None:
    """By Prefect's own client, which only the flows import."""
    _as_administrator(
        place, "Prefect's work pool could not be made", "flows", "pool", str(place.workspace.root)
    )


def _as_administrator(place: Place, failure: str, *module: str, given: str | None = None) -> None:
    """Runs a module with its arguments as a process that is logged in to both servers as their administrator."""
    login = log_ins.variables(place, log_ins.ADMINISTRATOR, place.passwords["mlflow_admin"])
    done = subprocess.run(
        [sys.executable, "-m", *module],
        input=given,
        env=os.environ | login,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise VggflowError(f"{failure}: {last_error_line(done).removeprefix('vggflow: ')}")


def _announce(place: Place, *, show_passwords: bool) -> None:
    person = log_ins.person()
    logins = {
        "MLflow": (place.url("mlflow"), person, place.passwords["person"]),
        "Prefect": (place.url("prefect"), log_ins.ADMINISTRATOR, place.passwords["prefect"]),
    }
    for name, (url, user, password) in logins.items():
        shown = f"password {password}" if show_passwords else f"password in {place.folder / PASSWORDS}"
        print_openly(f"{name:<8} {url}  user {user}, {shown}")
    say(f"shell    source {log_ins.write(place)}")
    for line in _limits(place):
        say(f"note     {line}")
    say("Ctrl-C stops all")


def _limits(place: Place) -> list[str]:
    lines = place.choices.limits()
    if place.workspace.path(artifacts.MLFLOW_DATABASE).exists():
        lines.append(
            "models from before these servers stay in .vggflow/mlflow.db: docs/operating.md says how to move them"
        )
    return lines
