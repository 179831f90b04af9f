"""What `vggflow doctor` and a worker that is asked find: a check, how it is, and what to do; and what both look at."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vggflow.errors import VggflowError
from vggflow.versioning import data_versions
from vggflow.workspace import Workspace

Health = Literal["ok", "warning", "wrong"]
LEAST_FREE_GB, LITTLE_FREE_GB = 2.0, 10.0
# What DVC says of a file that is not there; it also says so where all of the store is missing, or does not let us look.
NO_FILE = "does not exist"
NO_STORE = re.compile(
    r"NoSuchBucket|specified (bucket|container) does not exist|Cannot connect|(?!404)[45]\d\d, message="
)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: What was looked at.
        health: `ok`, `warning` (works, with a limit), or `wrong` (will fail).
        found: What is there.
        advice: What to do; empty where all is well, or where `found` says it.
    """

    check: str
    health: Health
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Ready for JSON."""
        return asdict(self)


def as_cells(found: Iterable[Finding]) -> list[list[str]]:
    """Rows for a table: the health, the check, and what was found with what to do."""
    return [[f.health, f.check, f.found + (f"\n→ {f.advice}" if f.advice else "")] for f in found]


def disk(folder: Path) -> Finding:
    """Whether there is room where a folder is, or will be."""
    free = shutil.disk_usage(_there(folder)).free / 1e9
    health: Health = "wrong" if free < LEAST_FREE_GB else "warning" if free < LITTLE_FREE_GB else "ok"
    advice = "" if health == "ok" else "`vggflow clean --keep 3`, or a larger disk"
    return Finding("disk", health, f"{free:.1f} GB free at {folder}", advice)


def dvc_remote(workspace: Workspace, *, pushed: bool = False) -> Finding:
    """Whether the DVC remote can be read; a folder also, whether it can be written.

    Args:
        workspace: Whose.
        pushed: Whether what git has of the start weights should be there too, as in a clone of what was imported.
    """
    try:
        name, address = workspace.named_dvc_remote()
    except VggflowError as error:
        return Finding("DVC", "wrong", str(error), "until then nothing can be versioned or trained")
    if not name:
        advice = "`dvc remote add --default NAME URL`, then commit .dvc/config"
        return Finding("DVC remote", "wrong", "none", advice)
    if "://" not in address and not _can_be_written(workspace.root / ".dvc" / address):
        advice = "mount it, make it writable, or `dvc remote modify NAME url ADDRESS`"
        return Finding("DVC remote", "wrong", f"{address} can't be written", advice)
    try:
        is_there = _has_weights(workspace, name)
    except VggflowError as error:
        return Finding("DVC remote", "wrong", str(error), "check address, credentials and network")
    if pushed and not is_there:
        told = f"{address} lacks the start weights that git names, so it is not the one that others push to"
        return Finding(
            "DVC remote", "wrong", told, "one that all machines reach, or `dvc push` where they are"
        )
    return Finding("DVC remote", "ok", address)


def _has_weights(workspace: Workspace, remote: str) -> bool:
    """Whether a remote has the listing of the start weights.

    Asked for by its address: `dvc status --cloud` says that all is well where DVC's cache is empty, as in a clone, and
    the remote does not answer.

    Raises:
        VggflowError: the remote does not answer, or does not let us look.
    """
    entry = data_versions.entry(workspace, "weights")
    md5 = entry.md5 if entry else "0" * 32
    try:
        workspace.dvc("list-url", f"remote://{remote}/files/md5/{md5[:2]}/{md5[2:]}")
    except VggflowError as error:
        if NO_FILE not in str(error) or NO_STORE.search(str(error)):
            raise
        return False
    return True


def _can_be_written(folder: Path) -> bool:
    """Whether a folder takes files, or could be made."""
    # DVC makes the folder at its first push.
    there = _there(folder)
    return there.is_dir() and os.access(there, os.W_OK)


def _there(folder: Path) -> Path:
    """The folder itself, or the lowest one above that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
