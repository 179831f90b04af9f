"""Where images come from: a folder or an archive, file by file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggflow.data.images import EXTENSIONS, MAX_BYTES
from vggflow.data.layout import is_unicode, shown, why
from vggflow.errors import DataError

# In bytes, on all usual file systems.
LONGEST_NAME = 255


@dataclass(frozen=True)
class Item:
    """A file of a source: its path below the source's root, its size in bytes, and a way to read its bytes.

    Reading raises `OSError` or `ValueError` for what is damaged.
    """

    path: PurePosixPath
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Skipped:
    """A file that is not brought in, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most, so that a small file can't fill the disk."""

    files: int = 2_000_000
    total_bytes: int = 200 * 1024**3


@contextmanager
def opened(source: Path, limits: Limits) -> Iterator[list[Item | Skipped]]:
    """The images of a folder, zip or tar, and what is left out; the items can be read while it is open.

    Raises:
        DataError: there is no such source, it is no archive, or holds more than the limits allow.
    """
    from vggflow.data import archives

    if source.is_dir():
        yield list(_folder(source))
    elif source.is_file():
        with archives.opened(source, limits) as items:
            yield items
    else:
        raise DataError(f"nothing to import at {source}: expected a folder, zip or tar of images")


def reason_to_skip(path: PurePosixPath, size: int) -> str | None:
    """Why a file is not worth a look, from its name and size."""
    if not is_unicode(str(path)):
        return "the name is not valid UTF-8"
    if any(len(part.encode()) > LONGEST_NAME for part in path.parts) or "\0" in str(path):
        return "a name that no disk can keep"
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return "a hidden file"
    if path.suffix.lower() not in EXTENSIONS:
        return "not an image by its extension"
    if size > MAX_BYTES:
        return f"larger than the limit of {MAX_BYTES // 1024**2} MiB"
    return None


def _folder(folder: Path, prefix: str = "") -> Iterator[Item | Skipped]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(shown(prefix.rstrip("/") or "."), f"the folder can't be opened: {why(error)}")
        return
    for entry in entries:
        path = prefix + entry.name
        if entry.is_symlink():
            yield Skipped(shown(path), "a link")
        elif entry.is_dir():
            yield from _folder(Path(entry.path), path + "/")
        elif not entry.is_file():
            yield Skipped(shown(path), "not a regular file")
        else:
            yield _file(entry, PurePosixPath(path))


def _file(entry: "os.DirEntry[str]", path: PurePosixPath) -> Item | Skipped:
    try:
        size = entry.stat(follow_symlinks=False).st_size
    except OSError as error:
        return Skipped(shown(str(path)), why(error))
    reason = reason_to_skip(path, size)
    return Skipped(shown(str(path)), reason) if reason else Item(path, size, Path(entry.path).read_bytes)
