"""Images from their files, checked by their hash and decoded ahead of the reader: in threads, or in processes.

Imports no Keras: processes that only decode start at once.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import ImageError, Pixels, Resize, open_image, pixels
from vggflow.data.parallel import DECODING_THREADS, MOST_THREADS, for_each, usable_cores
from vggflow.data.places import Place
from vggflow.errors import DataError

# On 16 cores processes decode 3,600 images a second where threads decode 2,004, but take 0.4 s to start: fewer images
# are sooner decoded by threads.
FEWEST_FOR_PROCESSES = 2_000
# After the hash of an image: its mirror image, whose features are others.
MIRRORED = ":mirrored"
# Before the message of an error, where a process answers with bytes.
DECODED, FAILED = b"+", b"-"


class Images(Protocol):
    """Images with what they hold, in one order."""

    @property
    def places(self) -> Sequence[Place]:
        """Where each is."""

    @property
    def hashes(self) -> Sequence[str]:
        """The SHA-256 of each, as in `Examples`."""


@dataclass(frozen=True)
class Examples:
    """The labelled images of a split: their names in a folder, what they hold, and their class as an index.

    What an image holds is its SHA-256, followed by `MIRRORED` where its mirror image is meant.
    """

    folder: Path
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def places(self) -> Sequence[Place]:
        """Where each image is."""
        from vggflow.data.contents import Contents  # pandas, which processes that decode do without

        return Contents(self.folder).places(self.names)


@dataclass(frozen=True)
class Shape:
    """The form that every image is brought into."""

    size_px: int
    resize: Resize


def changed(place: Place) -> DataError:
    """The error for a file that is not what the manifest says."""
    return DataError(f"{place} changed since validate: run `vggflow validate` again")


def read(place: Place, sha256: str, shape: Shape) -> Pixels:
    """One image, or its mirror image, as uint8 (S, S, 3), if its bytes are those of the manifest.

    Raises:
        DataError: the file is gone, has other bytes or can't be decoded.
    """
    # Read once: the bytes that were compared are the ones that are decoded, whatever becomes of the file.
    try:
        content = place.read()
    except OSError:
        raise changed(place) from None
    if hashlib.sha256(content).hexdigest() != sha256.removesuffix(MIRRORED):
        raise changed(place)
    try:
        found = pixels(open_image(content), shape.size_px, shape.resize)
        # A copy, as the reader may ask for one piece of memory.
        return np.ascontiguousarray(found[:, ::-1]) if sha256.endswith(MIRRORED) else found
    except ImageError as error:
        raise DataError(f"{place}: {error}; run `vggflow validate` again") from error


def threads() -> ThreadPoolExecutor:
    """Threads that decode."""
    return ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")


def read_ahead(images: Images, indices: Sequence[int], shape: Shape) -> Generator[Pixels]:
    """Yields images in the order of `indices`, decoded a few batches ahead of the reader.

    Raises:
        DataError: a file is gone, has other bytes or can't be decoded.
    """
    if usable_cores() > MOST_THREADS and len(indices) >= FEWEST_FOR_PROCESSES:
        yield from _in_processes(images, indices, shape)
    else:
        yield from _in_threads(images, indices, shape)


def _in_processes(images: Images, indices: Sequence[int], shape: Shape) -> Generator[Pixels]:
    with closing(for_each(decoded, _Asked(images, indices, shape))) as answers:
        for answer in answers:
            if answer[:1] == FAILED:
                raise DataError(bytes(answer[1:]).decode())
            size = shape.size_px
            yield np.frombuffer(answer, np.uint8, offset=1).reshape(size, size, 3)


class _Asked(Sequence[tuple[Place, str, int, str]]):
    """What processes are asked for, made as it is needed: of a million images it would take 200 MB."""

    def __init__(self, images: Images, indices: Sequence[int], shape: Shape) -> None:
        self._images, self._indices, self._shape = images, indices, shape

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._item(index) for index in self._indices[place]]
        return self._item(self._indices[place])

    def _item(self, index: int) -> tuple[Place, str, int, str]:
        images, shape = self._images, self._shape
        return images.places[index], images.hashes[index], shape.size_px, str(shape.resize)


def decoded(item: tuple[Sequence[Any], str, int, str]) -> bytes:
    """What a process answers for an image: `+` and its pixels, or `-` and what is wrong."""
    place, sha256, size_px, resize = item
    try:
        return DECODED + read(Place(*place), sha256, Shape(size_px, cast("Resize", resize))).tobytes()
    except DataError as error:
        return FAILED + str(error).encode()


def _in_threads(images: Images, indices: Sequence[int], shape: Shape) -> Generator[Pixels]:
    waiting: deque[Future[Pixels]] = deque()
    pool = threads()
    remaining = iter(indices)
    try:
        while True:
            # At 224 px and in 8 threads these are 256 images, 39 MB.
            for index in islice(remaining, max(0, 32 * DECODING_THREADS - len(waiting))):
                waiting.append(pool.submit(read, images.places[index], images.hashes[index], shape))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        # A reader may stop halfway, as after an error: nobody waits for images that nobody wants.
        pool.shutdown(wait=False, cancel_futures=True)
