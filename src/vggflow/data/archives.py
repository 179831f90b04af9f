"""Images in zip and tar archives, read member by member: nothing is unpacked to where its name says.

Members are only ever read as bytes and written by the importer under names of its own making, so a path that
leads out of the archive, a link or a device can do nothing; they are skipped, with their reason.
"""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

from vggflow.data.images import MAX_BYTES
from vggflow.data.layout import shown, why
from vggflow.data.sources import Item, Limits, Skipped, reason_to_skip
from vggflow.errors import DataError

# What damaged bytes make the readers raise; each compression has errors of its own.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
    EOFError, OSError, ValueError, NotImplementedError, RuntimeError, struct.error,
)  # fmt: skip


@contextmanager
def opened(archive: Path, limits: Limits) -> Iterator[list[Item | Skipped]]:
    """The images of an archive, and what is left out.

    A tar is read to its end before anything is taken from it: it has no table of contents, so that is the only
    way to tell a whole one from one that was cut off.

    Raises:
        DataError: it is no zip or tar, damaged, or holds more than the limits allow.
    """
    with ExitStack() as stack:
        try:
            listed = _listed(archive, limits, stack)
        except DataError:
            raise
        except PermissionError as error:
            raise DataError(f"{archive} can't be read: {why(error)}") from error
        except _DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{archive} is no zip or tar that can be read whole: {reason}; nothing was imported: get it again"
            ) from error
        yield listed


def _listed(archive: Path, limits: Limits, stack: ExitStack) -> list[Item | Skipped]:
    if zipfile.is_zipfile(archive):
        zipped = stack.enter_context(zipfile.ZipFile(archive))
        return _apart(_checked(_zip_members(zipped), archive, limits))
    taped = stack.enter_context(tarfile.open(archive, tarinfo=_Header))  # noqa: SIM115 - the stack closes it
    listed = _apart(_checked(_tar_members(taped), archive, limits))
    while taped.fileobj and taped.fileobj.read(1 << 20):
        pass  # the checksum of what is compressed comes last
    return listed


class _Header(tarfile.TarInfo):
    """A member's header; `tarfile` itself takes a damaged or missing one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from error


def _checked(members: Iterator[Item | Skipped], archive: Path, limits: Limits) -> list[Item | Skipped]:
    """Counts while listing, so that a tar of a billion names is refused before they fill the memory.

    A zip's table of contents is read whole by `zipfile`; it is as long as its part of the file, so what it takes
    is bounded by what somebody delivered.
    """
    listed, total = [], 0
    for member in members:
        listed.append(member)
        total += member.size if isinstance(member, Item) else 0
        if len(listed) > limits.files:
            raise DataError(f"{archive} holds more than {limits.files} files: unpack and import it in parts")
        if total > limits.total_bytes:
            limit = f"{limits.total_bytes / 1024**3:.3g} GiB"
            raise DataError(f"{archive} unpacks to more than {limit}: unpack and import it in parts")
    return listed


def _apart(members: list[Item | Skipped]) -> list[Item | Skipped]:
    """No file is a folder as well, which an archive can say and no disk can keep."""
    files = {member.path for member in members if isinstance(member, Item)}
    return [
        Skipped(str(member.path), "below a file, not a folder")
        if isinstance(member, Item) and not files.isdisjoint(member.path.parents)
        else member
        for member in members
    ]


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[Item | Skipped]:
    for info in zipped.infolist():
        if info.is_dir():
            continue
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        encrypted = bool(info.flag_bits & 0x1)
        why = "a link" if is_link else "encrypted" if encrypted else None
        yield _member(info.filename, info.file_size, why, partial(_read_zip, zipped, info))


def _tar_members(taped: tarfile.TarFile) -> Iterator[Item | Skipped]:
    for info in taped:
        if info.isdir():
            continue
        why = "a link" if info.issym() or info.islnk() else None if info.isfile() else "not a regular file"
        yield _member(info.name, info.size, why, partial(_read_tar, taped, info))


def _member(name: str, size: int, why: str | None, read: partial[bytes]) -> Item | Skipped:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        return Skipped(shown(name), "without a name")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return Skipped(shown(name), "a path that leads out of the archive")
    reason = why or reason_to_skip(path, size)
    return Skipped(shown(name), reason) if reason else Item(path, size, read)


def _read_zip(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with zipped.open(info) as member:
            # Never more than was announced, whatever the compressed bytes would swell to.
            return member.read(MAX_BYTES)
    except _DAMAGE as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _read_tar(taped: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        member = taped.extractfile(info)
        content = member.read(MAX_BYTES) if member else b""
    except _DAMAGE as error:
        raise ValueError(f"damaged in the archive: {error}") from error
    if len(content) != info.size:
        raise ValueError("damaged in the archive: it ends early")
    return content
