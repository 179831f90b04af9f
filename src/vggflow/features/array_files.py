"""Arrays in a file that ends with its own checksum: a changed byte is known before anything in it is believed.

It stays an `.npz` file that NumPy reads: the checksum is the comment that ends a zip file, and all before it is what
it speaks of. A zip's own checksums speak of its members only: its directory could send a reader anywhere.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggflow import files

Arrays = dict[str, NDArray[Any]]

CHECKSUM_LENGTH = hashlib.sha256().digest_size * 2
UNREADABLE = (OSError, ValueError, TypeError, LookupError, EOFError, NotImplementedError, zipfile.BadZipFile)


class Damaged(Exception):
    """A file can't be used; says why."""


def write(path: Path, arrays: Arrays) -> None:
    """Writes a file of arrays by name, whole or not at all."""
    with files.replacing(path) as beside:
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        with zipfile.ZipFile(beside, "a") as archive:
            # As long as it will be: its length stands before it, among what is summed.
            archive.comment = b"0" * CHECKSUM_LENGTH
        with beside.open("r+b") as file:
            checksum = _checksum(file)
            file.seek(-CHECKSUM_LENGTH, os.SEEK_END)
            file.write(checksum)


def _checksum(file: BinaryIO) -> bytes:
    """The SHA-256 of all before the checksum, in hexadecimal."""
    left = file.seek(0, os.SEEK_END) - CHECKSUM_LENGTH
    found = hashlib.sha256()
    file.seek(0)
    while left > 0:
        chunk = file.read(min(left, 1 << 20))
        found.update(chunk)
        # A file that became shorter meanwhile ends this, too.
        left -= len(chunk) or left
    return found.hexdigest().encode()


def read(path: Path) -> Arrays | None:
    """The arrays of a file; none where there is none.

    Raises:
        Damaged: it is not as it was written, or can't be read.
    """
    with explaining_damage(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            checksum = _checksum(file)
            if file.read() != checksum:
                raise Damaged(f"{path.name} has changed since it was written")
            file.seek(0)
            with np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}


@contextmanager
def explaining_damage(path: Path) -> Iterator[None]:
    """Turns what libraries raise over a file that they can't understand into `Damaged`."""
    try:
        yield
    except UNREADABLE as error:
        raise Damaged(f"{path.name}: {' '.join(str(error).split())}") from error
