"""What `data.dvc` and `weights.dvc` say: the version of a folder that git knows."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from vggflow.errors import UsageError

# Git's marks: seven of a kind at the start of a line, with or without a name behind them.
CONFLICT = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
# A folder's version; that of a single file has no `.dir`.
FOLDER = re.compile(r"[0-9a-f]{32}\.dir")


@dataclass(frozen=True)
class DvcFile:
    """A version of a tracked folder: DVC's hash of its listing, the number of files and their bytes."""

    md5: str
    files: int
    size: int


def read(path: Path) -> DvcFile | None:
    """The version that a `.dvc` file names; none where there is no such file.

    Raises:
        UsageError: git left conflict marks in it, or it is not what `dvc add` writes of a folder.
    """
    if not path.exists():
        return None
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    return parse(path, text)


def parse(path: Path, text: str) -> DvcFile:
    """The version that the text of a `.dvc` file names; `path` is what errors call it."""
    if CONFLICT.search(text):
        raise UsageError(
            f"{path} holds git's conflict marks: `vggflow data accept` puts both sides together, "
            "then go on with git"
        )
    try:
        # One and no more: `dvc add FOLDER` writes nothing else.
        (entry,) = yaml.safe_load(text)["outs"]
        md5, files, size = str(entry["md5"]), int(entry.get("nfiles", 0)), int(entry.get("size", 0))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"no version of a folder in it ({type(error).__name__})") from error
    if not FOLDER.fullmatch(md5):
        raise _unreadable(path, f"{md5!r} is not the version of a folder")
    return DvcFile(md5, files, size)


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} can't be read: {' '.join(why.split())}; expected what `dvc add` writes: "
        f"`git checkout HEAD -- {path.name}` takes it from git again"
    )
