"""What a stage depends on, looked at when it starts and when it ends: DVC takes its own look only after it ended.

So settings edited, or images brought in, while a training runs would be recorded as what it was trained from, in
`dvc.lock` and in the run cache of everybody. A stage whose inputs changed fails instead, and DVC records nothing.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vggflow import artifacts, files, packages, version
from vggflow.errors import InputsChanged, SettingsError
from vggflow.workspace import Workspace

# Larger files are told by size, time and inode: reading all data and models twice would cost minutes.
READ_AT_MOST_BYTES = 2**20
# What DVC does not look at either; `vggflow data sample` may run beside a training.
IGNORED = ("__pycache__", ".DS_Store")
SHOWN = 3


@dataclass(frozen=True)
class Inputs:
    """What a stage depended on at one moment: a short text per setting, file and folder."""

    workspace: Workspace
    stage: str
    seen: Mapping[str, str]

    def refuse_changes(self) -> None:
        """Looks again.

        Raises:
            InputsChanged: something is another than it was.
        """
        now = look(self.workspace, self.stage).seen
        # What has no entry on one side came or went: `none` is also what a missing file is told as.
        changed = sorted(
            name for name in {*self.seen, *now} if self.seen.get(name, "none") != now.get(name, "none")
        )
        if not changed:
            return
        shown = [_told(name, self.seen.get(name, "none"), now.get(name, "none")) for name in changed[:SHOWN]]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise InputsChanged(
            f"{', '.join(shown)}{more} changed while {self.stage} ran: its result is not recorded, since it is of "
            "neither state; run the same command again"
        )


@contextmanager
def unchanged(workspace: Workspace, stage: str) -> Iterator[Inputs]:
    """Within the block, what the stage depends on must stay as it is.

    Raises:
        InputsChanged: it did not.
    """
    inputs = look(workspace, stage)
    yield inputs
    # Not in a `finally`: a stage that failed says why it failed.
    inputs.refuse_changes()


def look(workspace: Workspace, stage: str) -> Inputs:
    """What the stage depends on now: what `dvc.yaml` names, and the packages."""
    named = _stage(workspace, stage)
    seen: dict[str, str] = _software()
    settings = _yaml(workspace.path(artifacts.PARAMS))
    for entry in named.get("params", []):
        if isinstance(entry, str):
            seen |= _settings(settings, entry)
        elif isinstance(entry, dict):  # settings of another file
            for name in entry:
                seen |= _file(workspace.root, str(name))
    for entry in named.get("deps", []):
        seen |= _file(workspace.root, str(entry))
    return Inputs(workspace, stage, seen)


def depends_on(workspace: Workspace, stage: str, name: str) -> bool:
    """Whether `dvc.yaml` names a file as a dependency of the stage."""
    return name in _stage(workspace, stage).get("deps", [])


def _stage(workspace: Workspace, stage: str) -> dict[str, Any]:
    found = _yaml(workspace.path(artifacts.PIPELINE)).get("stages", {}).get(stage)
    return found if isinstance(found, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {' '.join(str(error).split())[:200]}") from error
    return content if isinstance(content, dict) else {}


def _software() -> dict[str, str]:
    """Read anew, not remembered: somebody may upgrade an environment while it computes."""
    # Pillow by its package: what `packages.decoders` says is remembered for the life of the process.
    names = (*packages.ARITHMETIC, "tensorflow", "jax", "jaxlib", "pillow")
    found = {f"package {name}": packages.installed(name) or "none" for name in names}
    return found | {"package vggflow": version.digest(Path(version.__file__).parent)}


def _settings(settings: dict[str, Any], key: str) -> dict[str, str]:
    """The values of `train` or `registry.experiment`, one by one."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return _values(value, f"{artifacts.PARAMS.name}: {key}")


def _values(value: Any, name: str) -> dict[str, str]:
    parts: list[dict[str, str]] = []
    if isinstance(value, dict):
        parts = [_values(each, f"{name}.{key}") for key, each in value.items()]
    elif isinstance(value, list):
        parts = [_values(each, f"{name}[{number}]") for number, each in enumerate(value)]
    # An empty section or list falls through: it is told as `{}` or `[]`, which is another value than none.
    if parts:
        return {key: text for part in parts for key, text in part.items()}
    return {name: json.dumps(value, default=str)}


def _file(root: Path, name: str) -> dict[str, str]:
    path = root / name
    if path.is_dir():
        return {_relative(folder, root): text for folder, text in _folders(path, root)}
    try:
        status = path.stat()
        # By bytes: a `git checkout` of the same text changes time and inode, and is no change.
        if status.st_size <= READ_AT_MOST_BYTES:
            return {name: files.sha256(path)}
    except FileNotFoundError:
        return {name: "none"}
    return {name: _circumstances(status)}


def _folders(top: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Each folder below `top` with a digest of the names, sizes, times and inodes of its files."""
    for name, folders, _ in os.walk(top):
        folder = Path(name)
        # Assigned in place: `os.walk` goes only into what is left here.
        folders[:] = sorted(
            each for each in folders if each not in IGNORED and folder / each != root / artifacts.SAMPLE_DATA
        )
        content = hashlib.sha256()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                # A link to a folder counts as a file, since `os.walk` does not follow it.
                if entry.name not in IGNORED and not entry.is_dir(follow_symlinks=False):
                    told = f"{entry.name}\0{_circumstances(entry.stat(follow_symlinks=False))}\0"
                    # Names on Linux are bytes, which need not be UTF-8.
                    content.update(told.encode("utf-8", "surrogateescape"))
        yield folder, content.hexdigest()


def _circumstances(status: os.stat_result) -> str:
    # The inode tells a file that was put in place of another of the same size and time.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _relative(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _told(name: str, before: str, now: str) -> str:
    """A setting with its values, since they are short; of anything else the name."""
    return f"{name} {before} → {now}" if name.startswith(artifacts.PARAMS.name) else name
