"""Where images come from: a folder or an archive, file by file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggflow.data.images import EXTENSIONS, MAX_BYTES
from vggflow.errors import DataError


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
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return "a hidden file"
    if path.suffix.lower() not in EXTENSIONS:
        return "not an image by its extension"
    if size > MAX_BYTES:
        return f"larger than the limit of {MAX_BYTES // 1024**2} MiB"
    return None


def _folder(source: Path) -> Iterator[Item | Skipped]:
    for path in sorted(source.rglob("*")):
        relative = PurePosixPath(path.relative_to(source).as_posix())
        if path.is_symlink():
            yield Skipped(str(relative), "a link")
        elif path.is_file():
            size = path.stat().st_size
            reason = reason_to_skip(relative, size)
            yield Skipped(str(relative), reason) if reason else Item(relative, size, path.read_bytes)
        elif not path.is_dir():
            yield Skipped(str(relative), "not a regular file")
