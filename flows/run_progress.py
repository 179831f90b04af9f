"""How far a stage is, on the page of its run: the stage writes a file, a thread of the task shows it."""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from vggflow import artifacts
from vggflow.files import read_json
from vggflow.workspace import Workspace

SECONDS_BETWEEN_LOOKS = 2.0


def path_of(workspace: Workspace) -> Path:
    """Where a stage writes how far it is."""
    return workspace.path(artifacts.STATE) / "progress.json"


@contextmanager
def shown(workspace: Workspace, key: str) -> Iterator[None]:
    """Shows the progress of the stage that runs inside the block as an artifact of this task."""
    path = path_of(workspace)
    path.unlink(missing_ok=True)
    stop = threading.Event()
    # A thread starts with an empty context and would ask another server than the task.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_show, path, key, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SECONDS_BETWEEN_LOOKS)


def _show(path: Path, key: str, stop: threading.Event) -> None:
    artifact: UUID | None = None
    before: Any = None
    while True:
        # One look more after the end: a stage may be over before the first.
        last = stop.wait(SECONDS_BETWEEN_LOOKS)
        now = read_json(path) if path.exists() else None
        if now and now != before:
            artifact, before = _tell(artifact, key, now), now
        if last:
            return


def _tell(artifact: UUID | None, key: str, now: dict[str, Any]) -> UUID | None:
    """A server that is away misses some progress; the stage goes on."""
    percent = round(100.0 * now["done"] / max(now["total"], 1), 1)
    note = f"{now['what']} {now['done']} of {now['total']}. {now['note']}".strip()
    try:
        if artifact is None:
            made = create_progress_artifact(percent, key=key, description=note)
            return made if isinstance(made, UUID) else None
        update_progress_artifact(artifact, percent, description=note)
    except httpx.HTTPError:
        return artifact
    return artifact
