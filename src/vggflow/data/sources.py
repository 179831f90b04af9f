"""Where images come from: a folder, read file by file in the order of the names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggflow.data.images import EXTENSIONS, MAX_BYTES
from vggflow.errors import DataError


@dataclass(frozen=True)
class Item:
    """A file of a source: its path below the source's root, and a way to read its bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Skipped:
    """A file that is not brought in, and why."""

    path: str
    reason: str


def items(source: Path) -> Iterator[Item | Skipped]:
    """The image files of a source, and what is left out; links are never followed.

    Raises:
        DataError: there is no such folder.
    """
    if not source.is_dir():
        raise DataError(f"nothing to import at {source}: expected a folder of images")
    for path in sorted(source.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        relative = PurePosixPath(path.relative_to(source).as_posix())
        reason = _reason_to_skip(path)
        yield Skipped(str(relative), reason) if reason else Item(relative, path.read_bytes)


def _reason_to_skip(path: Path) -> str | None:
    if path.is_symlink():
        return "a link, not a file"
    if not path.is_file():
        return "not a regular file"
    if path.name.startswith("."):
        return "hidden file"
    if path.suffix.lower() not in EXTENSIONS:
        return "not an image by its extension"
    if path.stat().st_size > MAX_BYTES:
        return f"larger than the limit of {MAX_BYTES // 1024**2} MiB"
    return None
