"""What zip and tar have in common: members are counted while they are listed, and their names are looked at."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vggflow.errors import DataError
from vggflow.importing.sources import Item, Limits, Skipped, reason_to_skip, skipped

# What damaged bytes make the readers raise; each compression has errors of its own.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
    EOFError, OSError, ValueError, NotImplementedError, RuntimeError, struct.error,
)  # fmt: skip


class Count:
    """Counts members, their names and their bytes, and refuses before they fill the memory."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        size = archive.stat().st_size
        self._archive = archive
        self._most_files, self._longest_names = limits.files_from(size), limits.names_from(size)
        self._files = self._names = 0
        self.bytes = limits.bytes_from(size)

    def member(self, name: str) -> None:
        """One more member of this name.

        Raises:
            DataError: it is one too many.
        """
        self._files += 1
        self._names += len(name)
        if self._files > self._most_files:
            self.refuse(f"holds more than {self._most_files} files, too many for its size")
        if self._names > self._longest_names:
            self.refuse(f"holds names of more than {self._longest_names} letters, too many for its size")

    def reach(self, place: int) -> None:
        """The archive unpacks to so many bytes at least.

        Raises:
            DataError: these are too many.
        """
        if place > self.bytes:
            self.refuse(f"unpacks to more than {self.bytes / 1024**3:.3g} GiB, too much for its size")

    def refuse(self, reason: str) -> None:
        """Ends the import.

        Raises:
            DataError: always.
        """
        raise DataError(f"{self._archive} {reason}: if that is right, unpack it and import the folder")


def member(name: str, size: int, why: str | None, read: Callable[[], bytes]) -> Item | Skipped:
    """A file of an archive: to be read, or left out with its reason."""
    # Some programs on Windows put backslashes into archives.
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        return skipped(name, "without a name")
    # A colon: `C:` is a drive on Windows.
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return skipped(name, "a path that leads out of the archive")
    reason = why or reason_to_skip(path, size)
    return skipped(str(path), reason) if reason else Item(path, size, read)
