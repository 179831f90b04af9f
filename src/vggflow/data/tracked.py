"""What DVC has of a data folder: which of its files are on the remote, and under which hash."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from vggflow.errors import VggflowError
from vggflow.git_and_dvc import remote_contents
from vggflow.workspace import Workspace


class Version(NamedTuple):
    """Which bytes a file has: its size, when it changed, and its MD5 where DVC has these bytes; else empty."""

    size: int
    mtime_ns: int
    md5: str


class Tracked:
    """A data folder that may be DVC's.

    Asking DVC which files changed since `dvc add` costs a second and reads only these: a hash of what a file was
    before would give its former bytes.

    Raises:
        VggflowError: DVC can't tell.
    """

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder
        root = data_folder.parent
        within = (root / ".dvc").is_dir() and root.joinpath(f"{data_folder.name}.dvc").exists()
        self.remote = remote_contents.remote(root) if within else None
        self._hashes: dict[str, str] = {}
        if self.remote:
            self._hashes = remote_contents.listing(root, data_folder.name)
            for path in _changed(Workspace(root), data_folder.name):
                self._hashes.pop(path, None)

    def version(self, file: str) -> Version:
        """Which bytes a file has now; one that is gone has a size of -1."""
        try:
            status = os.stat(file)  # noqa: PTH116 (a `Path` for each image takes as long again)
        except OSError:
            return Version(-1, 0, "")
        below = file.removeprefix(f"{self._folder}/")
        return Version(status.st_size, status.st_mtime_ns, self._hashes.get(below, ""))


def _changed(workspace: Workspace, tracked: str) -> list[str]:
    """The paths below a tracked folder whose files are no longer what DVC has."""
    told = workspace.dvc("data", "status", "--json", "--granular", tracked)
    try:
        found = json.loads(told).get("uncommitted", {})
    except ValueError as error:
        raise VggflowError(
            f"`dvc data status` said {told[:80]!r} in {workspace.root}: expected JSON"
        ) from error
    changed = [path for kind in ("modified", "added") for path in found.get(kind, [])]
    return [path.removeprefix(f"{tracked}/") for path in changed]
