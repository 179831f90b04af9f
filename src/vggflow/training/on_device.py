"""Rows that are put on the device once: each step is then handed the numbers of its rows, 4 bytes each, and no rows."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.features.batches import Rows
from vggflow.models.network_summary import summarise
from vggflow.training.hardware import Hardware

NAME = "on_device"
# Copied to the device in parts of so many bytes: the host never holds all of them a second time.
PART_BYTES = 256 * 2**20
# Of what the device has left besides the training: its libraries and what they try out want some.
SHARE = 0.7


class Kept(keras.layers.Layer):  # type: ignore[misc]
    """All rows as a variable that does not learn; from numbers of rows (n,) to rows (n, …)."""

    def __init__(self, splits: Sequence[Rows]) -> None:
        super().__init__(name="rows", trainable=False, dtype="float32")
        first = splits[0].gather(np.zeros(1, np.int64))
        self._splits = splits
        count = sum(map(len, splits))
        self._kind = keras.backend.standardize_dtype(first.dtype)
        self._rows = self.add_weight(
            shape=(count, *first.shape[1:]),
            dtype=self._kind,
            initializer=self._read,
            trainable=False,
            autocast=False,
            name="rows",
        )

    def _read(self, shape: Sequence[int], dtype: str) -> Any:
        """The rows of all splits, part after part."""
        row_bytes = max(1, int(np.prod(shape[1:])) * 4)
        # A power of two: whole batches, where rows are computed in batches.
        size = 2 ** int(math.log2(max(1, PART_BYTES // row_bytes)))
        parts = [
            keras.ops.convert_to_tensor(split.gather(np.arange(start, min(start + size, len(split)))), dtype)
            for split in self._splits
            for start in range(0, len(split), size)
        ]
        return keras.ops.concatenate(parts)

    def compute_output_spec(self, numbers: keras.KerasTensor) -> keras.KerasTensor:
        """Rows of the kept kind."""
        return keras.KerasTensor((numbers.shape[0], *self._rows.shape[1:]), self._kind)

    def call(self, numbers: Any) -> Any:
        """The rows with these numbers."""
        return keras.ops.take(self._rows, numbers, axis=0)


class Numbers:
    """Stands for the rows of a split: what is gathered is where they lie on the device."""

    def __init__(self, start: int, count: int) -> None:
        self._start, self._count = start, count

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers for `Kept`, shape (n,)."""
        return (indices + self._start).astype(np.int32)


def put(network: keras.Model, splits: Sequence[Rows]) -> tuple[keras.Model, list[Rows]]:
    """The network from numbers of rows on, the rows of all splits on the device, and what stands for each split."""
    numbers = keras.Input((), dtype="int32", name="numbers")
    behind = keras.Model(numbers, network(Kept(splits)(numbers)), name=NAME)
    starts = np.cumsum([0, *map(len, splits)])
    return behind, [Numbers(int(start), len(split)) for start, split in zip(starts, splits, strict=False)]


def inner(network: keras.Model) -> keras.Model:
    """The network that learns, without what gives it its rows."""
    return network.layers[-1] if network.name == NAME else network


def fits(network: keras.Model, row_bytes: int, batch_size: int, hardware: Hardware) -> bool:
    """Whether rows of so many bytes in all fit beside the network, its optimizer and what a step holds."""
    free = hardware.free_bytes()
    if free is None:
        return False
    numbers = summarise(network)
    # Weights, gradients and two moments; outputs, and what flows back through them.
    training = 4 * numbers.parameter_bytes + 3 * batch_size * numbers.activation_bytes
    # Twice, as they are put together from parts there.
    return 2 * row_bytes + training <= SHARE * free


def bytes_of(splits: Sequence[Rows]) -> int:
    """What all rows of the splits take."""
    first = splits[0].gather(np.zeros(1, np.int64))
    return sum(map(len, splits)) * int(first.nbytes)
