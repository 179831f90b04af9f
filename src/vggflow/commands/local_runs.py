"""The last runs by hand in this folder, so that `vggflow status` can tell of them where no Prefect server runs."""

from datetime import datetime
from typing import Any

from vggflow import artifacts
from vggflow.credentials import hide
from vggflow.files import read_json, write_json
from vggflow.workspace import Workspace

KEPT = 20
FILE = artifacts.STATE / "runs.json"


def add(workspace: Workspace, name: str, state: str, message: str, began: datetime) -> None:
    """Remembers how a run ended."""
    seconds = round((datetime.now().astimezone() - began).total_seconds())
    row = {
        "run": name,
        "state": state,
        # What is printed is filtered on its way out, a file is not.
        "message": hide(message),
        "at": began.isoformat(timespec="seconds"),
        "seconds": seconds,
    }
    write_json(workspace.path(FILE), [row, *runs(workspace)][:KEPT])


def runs(workspace: Workspace) -> list[dict[str, Any]]:
    """The runs, newest first: run, state, message, at (ISO 8601), seconds."""
    path = workspace.path(FILE)
    return list(read_json(path)) if path.exists() else []
