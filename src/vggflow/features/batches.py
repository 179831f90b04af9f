"""Images of a split as batches: read and checked once, in an order that follows from seed and epoch.

`keras.utils.PyDataset` does the feeding: it works alike on TensorFlow and JAX, and it was the fastest. Features of
64 KB in batches of 32 into one dense layer on 2 cores: PyDataset in one thread 5,400 rows a second, in two 2,800,
tf.data calling NumPy 3,000, arrays in memory 3,500. Reading such rows alone: 96,000 a second. Under TensorFlow its
batches go through `tf.data` either way, where the end of an epoch must not wait (`Batches.for_keras`).
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.data import manifest as manifests
from vggflow.data.contents import Contents
from vggflow.errors import DataError
from vggflow.features.decode import MIRRORED, Examples, Shape, changed, read, threads

__all__ = ["Batches", "Decoding", "Examples", "Rows", "Shape", "examples", "order"]


# Under TensorFlow, gathered while a step is computed.
BATCHES_AHEAD = 2


class Rows(Protocol):
    """Anything that gives rows of one array by their numbers."""

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The rows with these numbers, in this order."""


def examples(
    manifest: pd.DataFrame,
    split: str,
    class_names: Sequence[str],
    data_folder: Path,
    *,
    mirrored: bool = False,
) -> Examples:
    """The labelled images of a split, in the manifest's order; after them, where asked for, their mirror images.

    Raises:
        DataError: there are none, or one is gone or has another size than the manifest says.
    """
    table = manifests.labelled(manifest, split)
    if table.empty:
        raise DataError(f"no labelled images in {split}: expected {data_folder / split}/<class>/ with images")
    # Sizes cost a call a file and show most changes before training; bytes are compared as they are read.
    places = Contents(data_folder).places(table["path"])
    for place, size in zip(places, table["bytes"], strict=True):
        if not place.is_there() or place.size_bytes() != size:
            raise changed(place)
    unknown = sorted(set(table["class_name"]) - set(class_names))
    if unknown:
        raise DataError(
            f"{split} has {', '.join(unknown)}, which train lacks: expected {', '.join(class_names)}"
        )
    labels = np.asarray(table["class_name"].map({name: n for n, name in enumerate(class_names)}), np.int64)
    names, hashes = tuple(table["path"]), tuple(table["sha256"])
    if not mirrored:
        return Examples(data_folder, names, hashes, labels)
    others = tuple(f"{image}{MIRRORED}" for image in hashes)
    return Examples(data_folder, names * 2, hashes + others, np.tile(labels, 2))


class Decoding:
    """Rows that are decoded anew at each access: for pixels that fit no cache."""

    def __init__(self, images: Examples, shape: Shape) -> None:
        self._images = images
        self._shape = shape
        self._pool = threads()

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Pixels as uint8 (n, S, S, 3)."""
        places = indices.tolist()
        found, hashes = (
            map(self._images.places.__getitem__, places),
            (self._images.hashes[place] for place in places),
        )
        return np.stack(list(self._pool.map(read, found, hashes, repeat(self._shape))))


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch (over all phases, from 1): a function of its arguments and nothing else."""
    # Not `seed + epoch`: then the second epoch of seed 0 would be the first of seed 1.
    return np.random.default_rng([seed, epoch]).permutation(count)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Rows in a given order with targets and weights, for Keras' fit and predict.

    Under JAX a batch is gathered and copied to the device while the network works on the one before; TensorFlow has
    threads of its own for that.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        indices: NDArray[np.int64] | None = None,
        targets: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
        weights: NDArray[np.float32] | None = None,
        place: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
    ) -> None:
        """Rows in the order of `indices`; `targets` makes those of some rows, by their numbers, when they are due.

        `place` brings a batch to where JAX computes, else that is its first device.
        """
        # With Keras' default of one worker: in two threads it fed half as many rows.
        super().__init__()
        self._rows = rows
        self._batch_size = batch_size
        self._indices = np.arange(len(rows)) if indices is None else indices
        self._targets = targets
        self._weights = weights
        self._place = place or _on_device
        self.error: Exception | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gather")
        self._ahead: tuple[int, Future[tuple[Any, ...]]] | None = None

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._batch_size)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        if keras.backend.backend() != "jax":
            return self._gather(number)
        ahead, self._ahead = self._ahead, None
        # Keras asks in order, but for the first two, which it looks at before an epoch.
        fits = ahead is not None and ahead[0] == number
        batch = ahead[1].result() if ahead and fits else self._place(self._gather(number))
        if number + 1 < len(self):
            self._ahead = number + 1, self._thread.submit(lambda: self._place(self._gather(number + 1)))
        return batch

    def for_keras(self) -> Any:
        """What `fit` and `predict` are given: this itself, or under TensorFlow a dataset of the same batches.

        Keras would make one that tunes itself. The thread that tunes it misses at times that all batches were read, and
        the end of the epoch waits until it wakes: 0.6, 1.3, 2.6, 5.1, 10.2, 20.5 s after the start, later every minute.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        first = self._gather(0)
        dataset = tf.data.Dataset.from_generator(
            lambda: chain([first], map(self._gather, range(1, len(self)))),
            output_signature=tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in first),
        )
        options = tf.data.Options()
        options.autotune.enabled = False
        known = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        return known.prefetch(BATCHES_AHEAD).with_options(options)

    def _gather(self, number: int) -> tuple[Any, ...]:
        chosen = self._indices[number * self._batch_size : (number + 1) * self._batch_size]
        try:
            rows = self._rows.gather(chosen)
        except Exception as error:
            # TensorFlow replaces what is raised in its threads by an error of its own; this keeps the cause.
            self.error = error
            raise
        targets = () if self._targets is None else (self._targets(chosen),)
        weights = () if self._weights is None else (self._weights[chosen],)
        return (rows, *targets, *weights)


def _on_device(batch: tuple[NDArray[Any], ...]) -> tuple[Any, ...]:
    """The batch as arrays of JAX's device: a copy that begins at once and that nobody waits for."""
    import jax

    return tuple(jax.device_put(batch))
