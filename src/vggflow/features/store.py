"""The feature cache: what the frozen layers gave for an image, kept between epochs, phases and trainings.

A folder per kind of feature, in it shards: a memory-mapped `.npy` with rows, and beside it a `.json` that
names the images and the checksum. The `.json` is written last, so a shard without one does not exist yet.
"""

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import VggflowError

FOLDER = "features"
KIND = "kind.json"
# Which shards were read and found whole, by size, times and inode; without it all are read again.
CHECKED = "checked"
# How folders begin in which the speed of the disk is tried.
TRIAL = ".trial-"
BFLOAT16 = "bfloat16"
SHARD_BYTES = 64 * 2**20
# What a kill loses of a pass, at most; small shards are merged after it.
MOST_ROWS_WRITTEN = 256
# Calls of a writer that its digest may be behind; bytes from which on it is worth another thread.
MOST_DIGESTS_WAITING = 3
LEAST_FOR_A_THREAD = 2**18
# Shards are joined up to such sizes: the next one where there would be more files than that, each of which takes a file
# descriptor, of which a process often has 1,024. A size stays until there is 256 times as much, so that what was joined
# is not joined again with each delivery.
JOINED_BYTES = (SHARD_BYTES, 2**30, 4 * 2**30)
MOST_SHARDS = 256


@dataclass(frozen=True)
class Kind:
    """All that features depend on besides the image.

    Args:
        cut: The layer after which the network is cut; `pixels` for what the network is fed with.
        shape: Of one image's features.
        dtype: `uint8`, `float32`, `float16` or `bfloat16`.
        network: A digest of the layers before the cut and their weights.
        reading: How the image became pixels: size, resize, decoder.
        arithmetic: What computed the features: software, device, precision, images at a time.
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
        return int(np.prod(self.shape)) * self.numbers.itemsize

    @property
    def numbers(self) -> np.dtype[Any]:
        """What its rows are in memory."""
        # NumPy has none of that name; this one came with TensorFlow and JAX.
        return np.dtype(ml_dtypes.bfloat16 if self.dtype == BFLOAT16 else self.dtype)

    @property
    def stored(self) -> np.dtype[Any]:
        """What they are on disk: a file of NumPy's can't name bfloat16, so its bits are kept as integers."""
        return np.dtype(np.uint16) if self.dtype == BFLOAT16 else self.numbers


@dataclass(frozen=True)
class Shard:
    """A file with features of several images, and the images' hashes in order."""

    path: Path
    images: tuple[str, ...]

    @property
    def listing(self) -> Path:
        """The file that makes the shard exist."""
        return self.path.with_suffix(".json")

    def remove(self) -> None:
        """Deletes the shard, the file that makes it exist first."""
        self.listing.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Store:
    """Features of one kind on disk. A shard is read for its checksum once, and dropped where it is damaged.

    One whose size, times and inode are those of its last check is trusted: reading the whole cache at each start took
    most of the time that 5 % more images cost.

    Shards stay open from `missing` on: one that another process removes meanwhile can still be read.
    """

    def __init__(self, state_folder: Path, kind: Kind) -> None:
        self.kind = kind
        self.folder = state_folder / FOLDER / kind.key()
        self._checked = _Checked(self.folder / CHECKED)
        self._arrays: dict[Path, NDArray[Any]] = {}
        self._shards: list[Shard] = []
        self._places: dict[str, tuple[Path, int]] = {}

    def missing(self, images: Sequence[str]) -> list[str]:
        """Those of the images that have no features here, in order and each once; counts as a use of the rest."""
        self._places, self._shards = {}, []
        wanted = set(images)
        for shard in shards(self.folder):
            if wanted.isdisjoint(shard.images):
                continue
            if not self._checked.is_whole(shard):
                shard.remove()
                continue
            with suppress(FileNotFoundError):  # another process may have made room
                with suppress(PermissionError):  # a cache that can only be read
                    os.utime(shard.listing)
                self._add(shard)
        self.remember()
        return [image for image in dict.fromkeys(images) if image not in self._places]

    def rows(self, images: Sequence[str]) -> "StoredRows":
        """The features of the images, memory-mapped; `missing` must have found them all."""
        places = [self._places[image] for image in images]
        return StoredRows(self.kind, [(self._arrays[path], row) for path, row in places])

    def merge(self) -> None:
        """Joins small shards into larger ones: every delivery of images brings one, and each costs an open file."""
        most = joined_rows(len(self._places), self.kind.row_bytes)
        large = [shard for shard in self._shards if 2 * len(shard.images) > most]
        small = [shard for shard in self._shards if 2 * len(shard.images) <= most]
        there = {image for shard in large for image in shard.images}
        for group in _groups(small, most):
            images = dict.fromkeys(image for shard in group for image in shard.images if image not in there)
            self._join(group, tuple(images))
        for shard in self._shards:
            self._place(shard)

    def _join(self, group: Sequence[Shard], images: tuple[str, ...]) -> None:
        old = [self._places[image] for image in images]
        with Writer(self, images, max(1, len(images))) as writer:
            for path, row in old:
                writer.add(self._arrays[path][row : row + 1])
        for shard in group:
            # A shard of the same images has the same name: removing it would take what was written just now.
            if shard.images != images:
                shard.remove()
                self._shards.remove(shard)
                del self._arrays[shard.path]

    def shard(self, images: tuple[str, ...]) -> Shard:
        """The shard for these images, which `Writer` writes."""
        if not (self.folder / KIND).exists():
            files.write_json(self.folder / KIND, asdict(self.kind))
        return Shard(self.folder / f"{_name(images)}.npy", images)

    def add(self, shard: Shard, checksum: str) -> None:
        """Makes a shard exist whose rows are written."""
        files.write_json(shard.listing, {"sha256": checksum, "images": list(shard.images)})
        self._checked.add(shard)
        self._add(shard)

    def remember(self) -> None:
        """Keeps which shards are whole, so that the next start need not read them."""
        self._checked.keep()

    def rows_per_shard(self, multiple: int) -> int:
        """Images in a shard of a pass: a multiple of the batch, so that after a kill the batches are the same."""
        rows = min(MOST_ROWS_WRITTEN, SHARD_BYTES // self.kind.row_bytes)
        return max(1, rows // multiple) * multiple

    def _add(self, shard: Shard) -> None:
        if shard.path not in self._arrays:
            # Mapped: a row is read when it is asked for, also after another process removed the file.
            self._arrays[shard.path] = np.load(shard.path, mmap_mode="r", allow_pickle=False)
        self._shards.append(shard)
        self._place(shard)

    def _place(self, shard: Shard) -> None:
        for row, image in enumerate(shard.images):
            self._places[image] = shard.path, row


class _Checked:
    """Shards that were found whole, as their files were then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):  # not written yet, or damaged: all are read again
            found = files.read_json(path)
            self._files = found if isinstance(found, dict) else {}
        self._kept = dict(self._files)

    def is_whole(self, shard: Shard) -> bool:
        """Whether the shard is as it was written; read only where nobody did since its file changed."""
        # Before it is read: what is written meanwhile makes it another file than the one that was found whole.
        state = _state(shard.path)
        if self._files.get(shard.path.name) == state and shard.path.stem == _name(shard.images):
            return True
        if not _is_whole(shard):
            return False
        self._files[shard.path.name] = state
        return True

    def add(self, shard: Shard) -> None:
        """Remembers a shard that was written just now."""
        self._files[shard.path.name] = _state(shard.path)

    def keep(self) -> None:
        """Writes down what was found, of the files that are still there."""
        names = {path.name for path in entries(self._path.parent)}
        there = {name: state for name, state in self._files.items() if name in names}
        # The folder may be gone, read-only or without room: then the next start reads them again.
        if there != self._kept and names:
            with suppress(OSError, VggflowError):
                files.write_json(self._path, there)
                self._kept = there


class StoredRows:
    """Rows of several shards as one array that is read piece by piece."""

    def __init__(self, kind: Kind, places: Sequence[tuple[NDArray[Any], int]]) -> None:
        self._kind = kind
        # By `id`, as arrays can't be keys; an image then takes two numbers here, not a tuple of objects.
        arrays = {id(array): array for array, _ in places}
        numbers = {key: number for number, key in enumerate(arrays)}
        self._arrays = list(arrays.values())
        self._shards = np.array([numbers[id(array)] for array, _ in places], np.int64)
        self._rows = np.array([row for _, row in places], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of the rows with these numbers, in this order."""
        rows = np.empty((len(indices), *self._kind.shape), self._kind.stored)
        for place, index in enumerate(indices):
            rows[place] = self._arrays[self._shards[index]][self._rows[index]]
        return rows.view(self._kind.numbers)


class Writer:
    """Writes rows of a store as they come, shard after shard, so they never pile up in memory.

    They are digested, and full shards put on disk for good, in threads of their own meanwhile. Leaving the block early
    drops the shard that is not full yet.
    """

    def __init__(self, store: Store, images: Sequence[str], rows_per_shard: int) -> None:
        starts = range(0, len(images), rows_per_shard)
        self._store = store
        self._chunks = iter([tuple(images[start : start + rows_per_shard]) for start in starts])
        self._shard: Shard | None = None
        self._stack = ExitStack()
        self._digesting = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._ending = ThreadPoolExecutor(1, thread_name_prefix="end of shard")
        self._digested: deque[Future[None]] = deque()
        self._ended: Future[None] | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        try:
            self._digesting.shutdown(cancel_futures=kind is not None)
            if self._ended and kind is None:
                self._ended.result()
        finally:
            self._ending.shutdown()
            self._stack.__exit__(kind, *error)
            self._store.remember()

    def add(self, rows: NDArray[Any]) -> None:
        """Takes the features of the next images, shape (n, …)."""
        while len(rows):
            if self._shard is None:
                self._begin(next(self._chunks))
            fitting, rows = rows[: self._missing], rows[self._missing :]
            self._append(narrowed(fitting, self._store.kind).data)
            self._missing -= len(fitting)
            if not self._missing:
                self._end()

    def _begin(self, images: tuple[str, ...]) -> None:
        self._shard = self._store.shard(images)
        self._missing = len(images)
        self._digest = hashlib.sha256()
        # The stack is left backwards: the file is closed before it takes its name.
        beside = self._stack.enter_context(files.replacing(self._shard.path))
        self._file = self._stack.enter_context(beside.open("wb"))
        header = io.BytesIO()
        shape = (len(images), *self._store.kind.shape)
        descr = np.lib.format.dtype_to_descr(self._store.kind.stored)
        # The header alone, as `np.save` wants all rows at once.
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self._append(header.getvalue())

    def _append(self, content: bytes | memoryview) -> None:
        # On the way, so that the file is not read once more for it; of little, at once.
        if memoryview(content).nbytes < LEAST_FOR_A_THREAD:
            self._wait_for_digests(0)
            self._digest.update(content)
        else:
            self._wait_for_digests(MOST_DIGESTS_WAITING)
            self._digested.append(self._digesting.submit(self._digest.update, content))
        self._file.write(content)

    def _wait_for_digests(self, left: int) -> None:
        while len(self._digested) > left:
            self._digested.popleft().result()

    def _end(self) -> None:
        # One at a time, so that shards come into being in their order.
        if self._ended:
            self._ended.result()
        self._wait_for_digests(0)
        if self._shard:
            self._ended = self._ending.submit(
                self._put_down, self._stack.pop_all(), self._shard, self._digest.hexdigest()
            )
        self._shard = None

    def _put_down(self, stack: ExitStack, shard: Shard, checksum: str) -> None:
        stack.close()
        self._store.add(shard, checksum)


class WritingThread:
    """A writer in a thread of its own: rows are digested and written while the next ones are computed."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> "WritingThread":
        return self

    def add(self, rows: NDArray[Any]) -> None:
        """Takes the features of the next images; waits where the disk is behind by more than two such calls."""
        if len(self._waiting) == 2:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._writer.add, rows))

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        try:
            # After an error nobody wants the rest.
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)


def joined_rows(images: int, row_bytes: int) -> int:
    """How many images a shard may have after joining, of so many images in all."""
    enough = (size for size in JOINED_BYTES if images * row_bytes <= size * MOST_SHARDS)
    return max(1, next(enough, JOINED_BYTES[-1]) // row_bytes)


def narrowed(rows: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """The rows as they are on disk."""
    if kind.dtype == "float16":
        # Beyond 65504 float16 knows infinity only, which would spoil every later sum.
        rows = np.clip(rows, np.finfo(np.float16).min, np.finfo(np.float16).max)
    # Rows that are joined come from their files, as integers.
    fitting = rows if rows.dtype == kind.stored else rows.astype(kind.numbers, copy=False)
    return np.ascontiguousarray(fitting).view(kind.stored)


def shards(folder: Path) -> Iterator[Shard]:
    """The shards in a kind's folder; a listing that can't be read is no shard."""
    for listing in _listings(folder):
        if images := _listed(listing):
            yield Shard(listing.with_suffix(".npy"), images)


def damaged(folder: Path) -> Iterator[Shard]:
    """What can't be used, in a kind's folder: listings that name no images, with the rows beside them."""
    for listing in _listings(folder):
        if not _listed(listing):
            yield Shard(listing.with_suffix(".npy"), ())


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where it is gone."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir())
    return []


def _listings(folder: Path) -> list[Path]:
    return [
        path
        for path in entries(folder)
        if path.suffix == ".json" and not path.name.startswith(".") and path.name != KIND
    ]


def _listed(listing: Path) -> tuple[str, ...]:
    """The images that a listing names; none where it is damaged or gone."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        images = tuple(files.read_json(listing)["images"])
        return images if all(isinstance(image, str) for image in images) else ()
    return ()


def _groups(small: Sequence[Shard], most: int) -> list[list[Shard]]:
    """The shards in groups of two or more with about `most` rows each."""
    groups: list[list[Shard]] = [[]]
    for shard in small:
        if sum(len(other.images) for other in groups[-1]) >= most:
            groups.append([])
        groups[-1].append(shard)
    return [group for group in groups if len(group) > 1]


def _name(images: Sequence[str]) -> str:
    return hashlib.sha256("".join(images).encode()).hexdigest()[:24]


def _state(path: Path) -> list[int]:
    """Size, times and inode of a file: another one where anything was written to it; nothing where it is gone."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return []


def _is_whole(shard: Shard) -> bool:
    """Whether both files are as they were written: the name vouches for the listing, the checksum for the
    rows."""
    try:
        checksum = files.read_json(shard.listing)["sha256"]
        return shard.path.stem == _name(shard.images) and files.sha256(shard.path) == checksum
    except (OSError, ValueError, KeyError, TypeError):
        return False
