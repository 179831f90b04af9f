"""What the last search for near hashes asked and found, so that the next one asks for new pictures only.

One file of 64-bit numbers, lowest byte first, which is read by mapping it into memory: its checksum, what it was made
with, how long each array is, and the arrays. 48 bytes a picture, and 16 a pair.
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vggflow.files import remove_halves, replacing
from vggflow.gate.hash_index import ENOUGH, PART_BITS, Hashes
from vggflow.gate.memory_files import remembering
from vggflow.gate.new_hashes import Pairs, Search, search

# Raised where `PartIndex.look_up` gives other lists, or the file has another form.
VERSION = 1
ARRAYS = 6


class Found(NamedTuple):
    """Hashes near each other, and hashes of windows near those of whole pictures."""

    near: Search
    cropped: Search


class HashMemory:
    """Searches for near hashes, kept in a folder; without one, or where it can't be written, nothing is remembered.

    Args:
        radius: bits in which hashes may differ.
        crop_radius: bits in which the hash of a window may differ from that of a whole picture.
    """

    def __init__(self, folder: Path | None, radius: int, crop_radius: int) -> None:
        self._radii = (radius, crop_radius)
        self._made_with = np.array([VERSION, ENOUGH, *PART_BITS, *self._radii], dtype=np.uint64)
        self._file = folder / f"near-hashes-{VERSION}.bin" if folder else None

    def search(self, hashes: Hashes, crops: Hashes) -> Found:
        """What a search from nothing finds.

        Args:
            hashes: of whole pictures, sorted, without repeats.
            crops: of their windows, sorted, without repeats.
        """
        before = self._remembered()
        if before and _equal(before.near.base, hashes) and _equal(before.cropped.queries, crops):
            return before
        radius, crop_radius = self._radii
        near = search(hashes, hashes, radius, before.near if before else None)
        cropped = search(crops, hashes, crop_radius, before.cropped if before else None)
        found = Found(near, cropped)
        if self._file:
            with remembering(self._file.parent):
                self._keep(self._file, found)
        return found

    def _keep(self, file: Path, found: Found) -> None:
        # Else other versions' would stay for ever.
        for old in file.parent.glob("near-hashes-*.bin"):
            if old != file:
                old.unlink(missing_ok=True)
        remove_halves(file)
        arrays = [found.near.base, found.cropped.queries, *found.near.pairs, *found.cropped.pairs]
        lengths = np.array([len(array) for array in arrays], dtype=np.uint64)
        content = np.concatenate(
            [np.zeros(1, np.uint64), self._made_with, lengths, *(array.view(np.uint64) for array in arrays)]
        )
        content[0] = _checksum(content)
        with replacing(file) as beside:
            content.astype("<u8", copy=False).tofile(beside)

    def _remembered(self) -> Found | None:
        """What was kept; None where there is nothing, or it is damaged or was made with something else."""
        # Not NumPy's own format: a header that is damaged ends in many kinds of errors.
        try:
            numbers = np.asarray(np.memmap(self._file, "<u8", "r")) if self._file else np.empty(0, np.uint64)
        except (OSError, ValueError):
            return None
        first = 1 + len(self._made_with) + ARRAYS
        if len(numbers) < first:
            return None
        if numbers[0] != _checksum(numbers) or not _equal(numbers[1 : first - ARRAYS], self._made_with):
            return None
        ends = first + np.cumsum(numbers[first - ARRAYS : first].astype(np.int64))
        hashes, crops, *positions, _ = np.split(numbers, [first, *ends])[1:]
        one, other, window, whole = (array.view(np.int64) for array in positions)
        return Found(Search(hashes, hashes, Pairs(one, other)), Search(crops, hashes, Pairs(window, whole)))


def _equal(one: Hashes, other: Hashes) -> bool:
    return np.array_equal(one, other)


def _checksum(content: Hashes) -> int:
    """Of everything but its own place."""
    return zlib.crc32(content[1:].data)
