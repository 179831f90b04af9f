"""Brings the servers of a workspace up, says where they are, and takes them down again."""

import importlib.util
from contextlib import suppress

from vggflow.console import say, tell
from vggflow.errors import UsageError
from vggflow.processes.locks import if_free
from vggflow.stack import after_start, log_ins, postgres, programs
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
        (folder / log_ins.CONTAINERS).unlink(missing_ok=True)
        # With the lock held: two at once would each make passwords and choose ports.
        place = open_place(workspace)
        with suppress(KeyboardInterrupt), supervising(place.folder) as supervisor:
            # After what an earlier one left was ended, which had these ports.
            check_ports(place)
            _start(place, supervisor)
            after_start.announce(place, place.folder / PASSWORDS, show_passwords=show_passwords)
            say("Ctrl-C stops all")
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
    after_start.set_users_up(place)
    supervisor.wait(prefect)
    after_start.make_work_pool(place)
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
