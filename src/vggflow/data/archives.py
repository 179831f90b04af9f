"""Images in zip and tar archives, read member by member: nothing is unpacked to where its name says.

Members are only ever read as bytes and written by the importer under names of its own making, so a path that
leads out of the archive, a link or a device can do nothing; they are skipped, with their reason.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from vggflow.data.images import MAX_BYTES
from vggflow.data.sources import Item, Limits, Skipped, reason_to_skip
from vggflow.errors import DataError


@contextmanager
def opened(archive: Path, limits: Limits) -> Iterator[list[Item | Skipped]]:
    """The images of an archive, and what is left out.

    Raises:
        DataError: it is no zip or tar, damaged, or holds more than the limits allow.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _checked(_zip_members(zipped), archive, limits)
        else:
            with tarfile.open(archive) as taped:
                yield _checked(_tar_members(taped), archive, limits)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is no zip or tar that can be read: {error}") from error


def _checked(members: Iterator[Item | Skipped], archive: Path, limits: Limits) -> list[Item | Skipped]:
    """Counts while listing, so that an archive of a billion names is refused before they fill the memory."""
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
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return Skipped(name, "a path that leads out of the archive")
    reason = why or reason_to_skip(path, size)
    return Skipped(name, reason) if reason else Item(path, size, read)


def _read_zip(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with zipped.open(info) as member:
            # Never more than was announced, whatever the compressed bytes would swell to.
            return member.read(MAX_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _read_tar(taped: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        member = taped.extractfile(info)
        content = member.read(MAX_BYTES) if member else b""
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"damaged in the archive: {error}") from error
    if len(content) != info.size:
        raise ValueError("damaged in the archive: it ends early")
    return content
