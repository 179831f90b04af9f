"""What every stack needs once its servers answer: users, a work pool, and the lines that say where all of it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

from vggflow import artifacts
from vggflow.console import say
from vggflow.credentials import print_openly
from vggflow.errors import VggflowError
from vggflow.processes.stage import last_error_line
from vggflow.stack import log_ins
from vggflow.stack.choices import Place


def set_users_up(place: Place) -> None:
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
    if log_ins.SERVE in place.passwords:
        users[log_ins.SERVE] = {"role": "reader", "password": place.passwords[log_ins.SERVE]}
    arguments = ("vggflow.tracking.users", "-C", str(place.workspace.root), "apply", "-")
    # By stdin: everybody can read command lines.
    _as_administrator(
        place, "MLflow's users could not be set up", *arguments, given=json.dumps({"users": users})
    )


def make_work_pool(place: Place) -> None:
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


def announce(place: Place, passwords: Path, *, show_passwords: bool) -> None:
    """Prints where the servers are and who logs in, and writes the file that a shell can source.

    Args:
        place: The stack.
        passwords: The file that holds them.
        show_passwords: Whether they are printed.
    """
    person = log_ins.person()
    logins = {
        "MLflow": (place.url("mlflow"), person, place.passwords["person"]),
        "Prefect": (place.url("prefect"), log_ins.ADMINISTRATOR, place.passwords["prefect"]),
    }
    for name, (url, user, password) in logins.items():
        shown = f"password {password}" if show_passwords else f"password in {passwords}"
        print_openly(f"{name:<8} {url}  user {user}, {shown}")
    say(f"shell    source {log_ins.write(place)}")
    for line in _limits(place):
        say(f"note     {line}")


def _limits(place: Place) -> list[str]:
    lines = place.choices.limits()
    if place.workspace.path(artifacts.MLFLOW_DATABASE).exists():
        lines.append(
            "models from before these servers stay in .vggflow/mlflow.db: docs/operating.md says how to move them"
        )
    return lines
