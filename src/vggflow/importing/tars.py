"""The members of a tar, in memory that does not grow with what its headers announce."""

import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, cast

from vggflow.data.images import MAX_BYTES
from vggflow.importing.items import DAMAGE, Count, member
from vggflow.importing.sources import Item, Limits, Skipped

# Each takes three calls of tarfile into itself; honest writers need two or three.
_HEADERS_OF_A_MEMBER = 16
# tarfile before Python 3.11.10 takes time by the square of such a run (CVE-2024-6232); no name is as long.
_DIGITS = re.compile(rb"[0-9]{256}")


def listed(archive: Path, limits: Limits, encoding: str | None, stack: ExitStack) -> list[Item | Skipped]:
    """The members of a tar, compressed or not, which is read to its end.

    Args:
        encoding: Of names that are not UTF-8; a POSIX tar's own long names always are.

    Raises:
        DataError: it holds more than the limits allow.
        Exception: whatever `tarfile` and the decompressors make of damage.
    """
    count = Count(archive, limits)
    file = stack.enter_context(archive.open("rb"))
    open_tar: Any = _Tar.open  # hands on what its declaration does not know
    taped: _Tar = stack.enter_context(
        open_tar(
            fileobj=file, encoding=encoding or "utf-8", errors="surrogateescape", limits=limits, count=count
        )
    )
    members = list(_members(taped, count))
    stream = cast("_Stream", taped.fileobj)
    while stream.read(1 << 20):
        pass  # the checksum of what is compressed comes last
    # Members are read again from here on, which unpacks nothing that was not counted.
    stream.is_listed = True
    return members


def _members(taped: "_Tar", count: Count) -> Iterator[Item | Skipped]:
    while info := taped.next():
        # tarfile keeps every header, and with it all that its extensions said.
        taped.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it
        info.pax_headers = {}
        count.member(info.name)
        if info.isdir():
            continue
        why = "a link" if info.issym() or info.islnk() else None if info.isfile() else "not a regular file"
        if info.issparse():
            why = "a file with holes: pack it without `--sparse`"
        yield member(info.name, info.size, why, partial(_read, taped, info))


def _read(taped: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        file = taped.extractfile(info)
        content = file.read(MAX_BYTES) if file else b""
    except DAMAGE as error:
        raise ValueError(f"damaged in the archive: {error}") from error
    if len(content) != info.size:
        raise ValueError("damaged in the archive: it ends early")
    return content


class _Stream:
    """The unpacked bytes of a tar as `tarfile` reads them: no further than the limits, no longer headers."""

    def __init__(self, file: IO[bytes], limits: Limits, count: Count) -> None:
        self._file, self._limits, self._count = file, limits, count
        self._headers = self._header_bytes = 0
        self.is_listed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if self._headers:
            self._header_bytes += size
            if self._header_bytes > self._limits.header_bytes:
                self._count.refuse(f"has a header of more than {self._limits.header_bytes / 1024**2:g} MiB")
        content = self._file.read(size)
        if self._headers and _DIGITS.search(content):
            self._count.refuse("has a header of digits without an end")
        if not self.is_listed:
            self._count.reach(self._file.tell())
        return content

    def seek(self, place: int, whence: int = 0) -> int:
        # What is compressed is unpacked on the way there.
        self._count.reach(place)
        return self._file.seek(place, whence)

    @contextmanager
    def header(self) -> Iterator[None]:
        """While this lasts, what is read is a header, or an extension that announces another one."""
        if not self._headers:
            self._header_bytes = 0
        self._headers += 1
        if self._headers > _HEADERS_OF_A_MEMBER:
            self._count.refuse(f"has a member with more than {_HEADERS_OF_A_MEMBER} headers")
        try:
            yield
        finally:
            self._headers -= 1


class _Header(tarfile.TarInfo):
    """A member's header; `tarfile` itself takes a damaged or missing one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            with cast("_Stream", archive.fileobj).header():
                return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from error


class _Tar(tarfile.TarFile):
    """A tar that reads through `_Stream`, above whatever it is compressed with."""

    tarinfo = _Header

    def __init__(
        self, name: Any, mode: Any, fileobj: Any, *, limits: Limits, count: Count, **more: Any
    ) -> None:
        super().__init__(name, mode, cast("Any", _Stream(fileobj, limits, count)), **more)
