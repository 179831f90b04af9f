"""The feature cache: what the frozen layers gave for an image, kept between epochs, phases and trainings.

A folder per kind of feature, in it shards: a memory-mapped `.npy` with rows, and beside it a `.json` that
names the images and the checksum. The `.json` is written last, so a shard without one does not exist yet.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow import files

FOLDER = "features"
KIND = "kind.json"
SHARD_BYTES = 32 * 2**20
MOST_ROWS = 4096
HOURS_UNTIL_ABANDONED = 1.0


@dataclass(frozen=True)
class Kind:
    """All that features depend on besides the image.

    Args:
        cut: The layer after which the network is cut; `pixels` for what the network is fed with.
        shape: Of one image's features.
        dtype: `uint8`, `float32` or `float16`.
        network: A digest of the layers before the cut and their weights.
        reading: How the image became pixels: size, resize, decoder.
        arithmetic: What computed the features: backend and precision.
    """

    cut: str
    shape: tuple[int, ...]
    dtype: str
    network: str
    reading: str
    arithmetic: str

    def key(self) -> str:
        """The name of the folder: equal kinds, and only those, have an equal one."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]

    @property
    def row_bytes(self) -> int:
        """Bytes that one image takes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Shard:
    """A file with features of several images, and the images' hashes in order."""

    path: Path
    images: tuple[str, ...]

    @property
    def listing(self) -> Path:
        """The file that makes the shard exist."""
        return self.path.with_suffix(".json")

    def size_bytes(self) -> int:
        """What the shard takes on disk."""
        return self.path.stat().st_size + self.listing.stat().st_size

    def remove(self) -> None:
        """Deletes the shard, the file that makes it exist first."""
        self.listing.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Store:
    """Features of one kind on disk. A shard is read for its checksum once, and dropped where it is
    damaged."""

    def __init__(self, state_folder: Path, kind: Kind) -> None:
        self.kind = kind
        self.folder = state_folder / FOLDER / kind.key()
        self._checked: dict[Path, bool] = {}
        self._places: dict[str, tuple[Shard, int]] = {}

    def missing(self, images: Sequence[str]) -> list[str]:
        """Those of the images that have no features here, in order and each once."""
        self._look(set(images))
        return [image for image in dict.fromkeys(images) if image not in self._places]

    def rows(self, images: Sequence[str]) -> "StoredRows":
        """The features of the images, memory-mapped; all must be here. Counts as a use of their shards."""
        places = [self._places[image] for image in images]
        for shard in {shard.path: shard for shard, _ in places}.values():
            os.utime(shard.listing)
        return StoredRows(self.kind, places)

    def write(self, images: Sequence[str], rows: NDArray[Any]) -> None:
        """Adds a shard."""
        if not (self.folder / KIND).exists():
            files.write_json(self.folder / KIND, asdict(self.kind))
        shard = Shard(self.folder / f"{_name(images)}.npy", tuple(images))
        with files.replacing(shard.path) as beside:
            np.save(beside, rows, allow_pickle=False)
            checksum = files.sha256(beside)
        files.write_json(shard.listing, {"sha256": checksum, "images": list(images)})
        self._checked[shard.path] = True
        self._add(shard)

    def rows_per_shard(self, multiple: int) -> int:
        """Images in a full shard: a multiple of the batch, so that after a kill the batches are the same."""
        rows = min(MOST_ROWS, SHARD_BYTES // self.kind.row_bytes)
        return max(1, rows // multiple) * multiple

    def _look(self, wanted: set[str]) -> None:
        for shard in shards(self.folder):
            if wanted.isdisjoint(shard.images):
                continue
            if not self._is_whole(shard):
                shard.remove()
                continue
            self._add(shard)

    def _add(self, shard: Shard) -> None:
        for place, image in enumerate(shard.images):
            self._places.setdefault(image, (shard, place))

    def _is_whole(self, shard: Shard) -> bool:
        if shard.path not in self._checked:
            self._checked[shard.path] = _is_whole(shard)
        return self._checked[shard.path]


class StoredRows:
    """Rows of several shards as one array that is read piece by piece."""

    def __init__(self, kind: Kind, places: Sequence[tuple[Shard, int]]) -> None:
        self._kind = kind
        paths = list(dict.fromkeys(shard.path for shard, _ in places))
        numbers = {path: number for number, path in enumerate(paths)}
        self._arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self._shards = np.array([numbers[shard.path] for shard, _ in places], np.int64)
        self._rows = np.array([row for _, row in places], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of the rows with these numbers, in this order."""
        rows = np.empty((len(indices), *self._kind.shape), self._kind.dtype)
        for place, index in enumerate(indices):
            rows[place] = self._arrays[self._shards[index]][self._rows[index]]
        return rows


@dataclass
class Writer:
    """Collects rows until a shard is full."""

    store: Store
    rows_per_shard: int
    _images: list[str] = field(default_factory=list)
    _rows: list[NDArray[Any]] = field(default_factory=list)

    def add(self, image: str, row: NDArray[Any]) -> None:
        """Takes the features of one image."""
        self._images.append(image)
        self._rows.append(_narrow(row, self.store.kind.dtype))
        if len(self._images) == self.rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Writes what is there."""
        if self._images:
            self.store.write(self._images, np.stack(self._rows))
        self._images, self._rows = [], []


def _narrow(row: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "float16":
        # Beyond 65504 float16 knows infinity only, which would spoil every later sum.
        row = np.clip(row, np.finfo(np.float16).min, np.finfo(np.float16).max)
    return row.astype(dtype)


def shards(folder: Path) -> Iterator[Shard]:
    """The shards in a kind's folder; a listing that can't be read is no shard."""
    for listing in sorted(folder.glob("*.json")):
        if listing.name == KIND:
            continue
        with suppress(OSError, ValueError, KeyError):
            yield Shard(listing.with_suffix(".npy"), tuple(files.read_json(listing)["images"]))


def _name(images: Sequence[str]) -> str:
    return hashlib.sha256("".join(images).encode()).hexdigest()[:24]


def _is_whole(shard: Shard) -> bool:
    """Whether both files are as they were written: the name vouches for the listing, the checksum for the
    rows."""
    try:
        checksum = files.read_json(shard.listing)["sha256"]
        return shard.path.stem == _name(shard.images) and files.sha256(shard.path) == checksum
    except (OSError, ValueError, KeyError):
        return False


@dataclass(frozen=True)
class Entry:
    """What the cache holds of one kind; `last_used` in seconds since 1970."""

    kind: Kind
    images: int
    size_bytes: int
    last_used: float


def contents(state_folder: Path) -> list[Entry]:
    """What the cache holds, the kind last used first."""
    entries = []
    for path in (state_folder / FOLDER).glob(f"*/{KIND}"):
        content = files.read_json(path)
        kind = Kind(**{**content, "shape": tuple(content["shape"])})
        held = list(shards(path.parent))
        used = max(map(_last_used, held), default=path.stat().st_mtime)
        images = len({image for shard in held for image in shard.images})
        entries.append(Entry(kind, images, sum(shard.size_bytes() for shard in held), used))
    return sorted(entries, key=lambda entry: -entry.last_used)


def held_bytes(state_folder: Path) -> int:
    """What the cache takes on disk."""
    return sum(path.stat().st_size for path in (state_folder / FOLDER).glob("*/*"))


def clear(state_folder: Path) -> int:
    """Removes all features; the next training computes them again. Returns the bytes freed."""
    freed = held_bytes(state_folder)
    shutil.rmtree(state_folder / FOLDER, ignore_errors=True)
    return freed


def evict(state_folder: Path, limit_bytes: int, unused_since: float = math.inf) -> int:
    """Removes the shards that were not used for longest until the rest fits; none used after `unused_since`.

    Also removes what a killed process left half-written. Returns the bytes freed.
    """
    _remove_abandoned(state_folder / FOLDER)
    held = [shard for folder in (state_folder / FOLDER).glob("*") for shard in shards(folder)]
    sizes = {shard.path: shard.size_bytes() for shard in held}
    excess = sum(sizes.values()) - limit_bytes
    freed = 0
    for shard in sorted(held, key=_last_used):
        if freed >= excess or _last_used(shard) > unused_since:
            break
        shard.remove()
        freed += sizes[shard.path]
    return freed


def _last_used(shard: Shard) -> float:
    return shard.listing.stat().st_mtime


def _remove_abandoned(folder: Path) -> None:
    oldest = time.time() - HOURS_UNTIL_ABANDONED * 3600
    for path in folder.glob("*/.*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    for path in folder.glob("*/*.npy"):
        with suppress(FileNotFoundError):
            if not path.with_suffix(".json").exists() and path.stat().st_mtime < oldest:
                path.unlink()
