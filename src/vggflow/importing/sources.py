"""Where images come from: a folder or an archive, file by file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vggflow.data.images import EXTENSIONS, MAX_BYTES
from vggflow.data.layout import is_unicode, shown, why
from vggflow.errors import DataError

# In bytes, on all usual file systems.
LONGEST_NAME = 255
LONGEST_PATH = 4096

ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"})
# Pictures that no reader here opens: a delivery that loses them has lost something, unlike its notes and tables.
OTHER_PICTURES = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".j2k", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf"}
    | {".tga", ".ppm", ".pgm", ".pbm", ".exr", ".dcm"}
)
_WANTED = EXTENSIONS | ARCHIVES | OTHER_PICTURES
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a source: its path below the source's root, its size in bytes, and a way to read its bytes.

    Reading raises `OSError` or `ValueError` for what is damaged.
    """

    path: PurePosixPath
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not brought in, and why; `lost` where somebody will miss it: a picture, or an archive."""

    path: str
    reason: str
    lost: bool = True


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most, so that a small file fills neither the disk nor the memory.

    All of it counts, headers and members that are skipped too, and is refused before it is read.

    Attributes:
        files: Members, folders included.
        total_bytes: What it unpacks to.
        expansion: To how many times its own size it may unpack. Photographs hardly shrink; pictures of few
            colours without compression of their own do, by some ten times.
        header_bytes: All headers of one member, its name among them.
    """

    files: int = 2_000_000
    total_bytes: int = 200 * 1024**3
    expansion: int = 100
    header_bytes: int = 1024**2

    def bytes_from(self, archive_bytes: int) -> int:
        """How much an archive of this size may unpack to; 256 MiB are free, or small ones would be refused."""
        return min(self.total_bytes, 256 * 1024**2 + self.expansion * archive_bytes)

    def files_from(self, archive_bytes: int) -> int:
        """How many members it may have: no picture, with its header, takes less than 32 bytes of an archive."""
        return min(self.files, 20_000 + archive_bytes // 32)

    def names_from(self, archive_bytes: int) -> int:
        """How many bytes all its names may have together, since they are what is kept in memory."""
        return 16 * 1024**2 + archive_bytes


@dataclass(frozen=True)
class Found:
    """What a source holds, and what a person should know of how it was read."""

    items: list[Item]
    skipped: list[Skipped]
    notes: list[str] = field(default_factory=list)


@contextmanager
def opened(source: Path, limits: Limits, encoding: str | None = None) -> Iterator[Found]:
    """The images of a folder, zip or tar, and what is left out; the items can be read while it is open.

    Args:
        encoding: What names are written in that don't say so themselves, such as `cp1252`.

    Raises:
        DataError: there is no such source, it is no archive, or holds more than the limits allow.
    """
    from vggflow.importing import archives  # which imports this module

    if source.is_dir():
        yield found(_folder(source, encoding))
    elif source.is_file():
        with archives.opened(source, limits, encoding) as members:
            yield members
    else:
        raise DataError(f"nothing to import at {source}: expected a folder, zip or tar of images")


def found(members: Iterator[Item | Skipped]) -> Found:
    """Items and skipped files apart."""
    sorted_out = Found([], [])
    for member in members:
        if isinstance(member, Item):
            sorted_out.items.append(member)
        else:
            sorted_out.skipped.append(member)
    return sorted_out


def skipped(path: str, reason: str) -> Skipped:
    """A file that is left out; its name is cut where it is too long to be shown, and can be written down."""
    parts = PurePosixPath(path).parts
    wanted = PurePosixPath(path).suffix.lower() in _WANTED and not _is_hidden(parts)
    name = path if len(path) <= _SHOWN_CHARACTERS else f"{path[:_SHOWN_CHARACTERS]}…"
    return Skipped(shown(name), reason, wanted)


def reason_to_skip(path: PurePosixPath, size: int) -> str | None:
    """Why a file is not worth a look, from its name and size."""
    # Asked first, as the lengths below can't be told of such a name.
    if not is_unicode(str(path)):
        return "the name is not valid UTF-8: `--encoding` says what it is"
    if any(len(part.encode()) > LONGEST_NAME for part in path.parts) or "\0" in str(path):
        return "a name that no disk can keep"
    if len(str(path).encode()) > LONGEST_PATH:
        return "a name that no disk can keep"
    if _is_hidden(path.parts):
        return "a hidden file"
    if path.suffix.lower() in ARCHIVES:
        return "an archive within: unpack it and import what it holds"
    if path.suffix.lower() not in EXTENSIONS:
        return "not an image by its extension"
    if size > MAX_BYTES:
        return f"larger than the limit of {MAX_BYTES // 1024**2} MiB"
    return None


def _is_hidden(parts: tuple[str, ...]) -> bool:
    # What a Mac adds to a zip: `__MACOSX/._cat.jpg` has a picture's name and is none.
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _folder(folder: Path, encoding: str | None, prefix: str = "") -> Iterator[Item | Skipped]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(shown(prefix.rstrip("/") or "."), f"the folder can't be opened: {why(error)}")
        return
    for entry in entries:
        path = prefix + _readable(entry.name, encoding)
        # Asked before `is_dir`, which follows links, round and round where one leads back up.
        if entry.is_symlink():
            yield skipped(path, "a link")
        elif entry.is_dir():
            yield from _folder(Path(entry.path), encoding, path + "/")
        elif not entry.is_file():
            yield skipped(path, "not a regular file")
        else:
            yield _file(entry, PurePosixPath(path))


def _readable(name: str, encoding: str | None) -> str:
    """A name of a file, which on Linux may be any bytes."""
    if encoding is None or is_unicode(name):
        return name
    return os.fsencode(name).decode(encoding, "surrogateescape")


def _file(entry: "os.DirEntry[str]", path: PurePosixPath) -> Item | Skipped:
    try:
        size = entry.stat(follow_symlinks=False).st_size
    except OSError as error:
        return skipped(str(path), why(error))
    reason = reason_to_skip(path, size)
    return skipped(str(path), reason) if reason else Item(path, size, Path(entry.path).read_bytes)
