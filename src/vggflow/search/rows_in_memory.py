"""Cached features of all images as arrays: what trials of a last layer learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggflow.features.batches import Rows
from vggflow.training.learner import Data

# More is left to normal trainings, which read their rows from the cache.
MOST_BYTES = 2 * 10**9
ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class RowsInMemory:
    """Features (n, …) and targets (n, 1) or (n, classes) of train; features and labels (n,) of valid."""

    train: NDArray[np.generic]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]
    valid: NDArray[np.generic]
    valid_labels: NDArray[np.int64]


def in_memory(data: Data, units: int) -> RowsInMemory:
    """The rows of both splits; `units` is how many numbers the network answers with."""
    labels = data.train_labels
    one = labels.astype(np.float32)[:, np.newaxis]
    targets = one if units == 1 else np.eye(units, dtype=np.float32)[labels]
    return RowsInMemory(_all(data.train), targets, labels, _all(data.valid), data.valid_labels)


def _all(rows: Rows) -> NDArray[np.generic]:
    starts = range(0, len(rows), ROWS_AT_A_TIME)
    parts = [rows.gather(np.arange(at, min(at + ROWS_AT_A_TIME, len(rows)))) for at in starts]
    return np.concatenate(parts)
