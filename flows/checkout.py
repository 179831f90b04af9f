"""The pull step of every deployment: a worker brings the workspace of a run, in a folder of the run's own.

A process worker gives each run a temporary folder and removes it afterwards, so two runs never share a checkout.
What a killed worker left behind is removed by the next run on the machine when it begins, and by a retraining also
when it ends.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from vggflow.environment import state_folder
from vggflow.errors import UsageError, VggflowError
from vggflow.files import read_json, write_json
from vggflow.workspace import Workspace, find

OWNER = ".vggflow-owner.json"
# A minute and a half in all, for a git server that is started again.
SECONDS_BETWEEN_TRIES = (5.0, 20.0, 60.0)


def bring(repository: str = "", branch: str = "", folder: str = "", name: str = "") -> dict[str, str]:
    """Clones the workspace here, or goes to its folder where it has no git remote.

    Raises:
        UsageError: the folder is not on this machine, or what the clone computes would be lost with it.
        VggflowError: git does not answer, even after a minute and a half.
    """
    return _bring(repository, branch, folder, name, SECONDS_BETWEEN_TRIES)


def bring_at_once(repository: str = "", branch: str = "", folder: str = "", name: str = "") -> dict[str, str]:
    """The same, but git is asked once: somebody waits for what comes of it."""
    return _bring(repository, branch, folder, name, ())


def stay() -> dict[str, str]:
    """The pull step of `check-worker`, which brings the workspace itself. With none, Prefect would copy the folder in
    which the worker was started, whatever that is in a container."""
    return {"directory": str(Path.cwd())}


def _bring(repository: str, branch: str, folder: str, name: str, waits: Sequence[float]) -> dict[str, str]:
    if not repository:
        if not (Path(folder) / "params.yaml").is_file():
            raise UsageError(
                f"{folder} is not on this machine: give the workspace a git remote, then `vggflow deploy` again"
            )
        os.chdir(folder)
        return {"directory": folder}
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise UsageError(
            "MLFLOW_TRACKING_URI is not set in this worker's environment: what a run tracks would be removed "
            "with its clone; set it where the worker is started"
        )
    remove_left_behind()
    here = Path.cwd()
    # Before the clone: a run that is killed while it clones is found by this.
    write_json(here / OWNER, _process(os.getpid()))
    clone = Workspace(here / (name or "workspace"))
    _clone(repository, branch, clone.root, waits)
    share_cache(find(clone.root), name)
    os.chdir(clone.root)
    return {"directory": str(clone.root)}


def share_cache(workspace: Workspace, name: str) -> None:
    """Gives all clones of a workspace on this machine one DVC cache, so that data comes over the network once."""
    cache = shared_cache(name or workspace.name)
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    workspace.dvc("config", "--local", "cache.dir", str(cache))


def shared_cache(name: str) -> Path:
    """Where all clones of a workspace on this machine have their DVC cache."""
    return state_folder() / "dvc-cache" / name


def remove_left_behind() -> None:
    """Removes the folders of runs whose process is gone, as after a power cut or a killed worker."""
    for folder, lives in _folders():
        if not lives:
            shutil.rmtree(folder, ignore_errors=True)


def is_at_work(name: str) -> bool:
    """Whether a run works in a clone of this workspace on this machine."""
    return any(lives and (folder / name).exists() for folder, lives in _folders())


def _folders() -> Iterator[tuple[Path, bool]]:
    """The folders of runs, and whether their process lives."""
    # Prefect's worker makes its folders so: a random name that ends with `prefect`.
    for mark in Path(tempfile.gettempdir()).glob(f"*prefect/{OWNER}"):
        try:
            owner: dict[str, Any] = read_json(mark)
        except (OSError, json.JSONDecodeError):
            continue  # another run is removing it at this moment
        yield mark.parent, _process(owner["pid"]) == owner


def _clone(repository: str, branch: str, destination: Path, waits: Sequence[float]) -> None:
    above = Workspace(destination.parent)
    options = ["--branch", branch] if branch else []
    for seconds in (*waits, None):
        try:
            # `--depth 1`: a run needs no history, which may be long.
            above.git("clone", "--quiet", "--depth", "1", *options, repository, str(destination))
        except VggflowError:
            if seconds is None:
                raise
            time.sleep(seconds)
        else:
            return


def _process(pid: int) -> dict[str, float]:
    """A process so named that a later one with the same number is not taken for it; zeros where it is gone."""
    try:
        return {"pid": pid, "began": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        # No process began in 1970, so this equals none that is on record.
        return {"pid": pid, "began": 0}
