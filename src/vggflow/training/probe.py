"""What the frozen features are worth without training: a linear classifier in closed form."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vggflow.features.batches import Rows

ROWS_AT_A_TIME = 256
# Relative to the features' mean variance; between 1e-3 and 1e-1 the accuracy on photographs hardly moved.
RIDGE = 1e-2

Features = NDArray[np.float64]


def probe_accuracy(
    train: Rows, train_labels: NDArray[np.int64], valid: Rows, valid_labels: NDArray[np.int64]
) -> float:
    """The accuracy on valid of ridge regression onto the classes (Hoerl and Kennard 1970), fitted on train.

    Feature maps (H, W, C) are averaged over H and W. Classes weigh the same. Reads each split once or twice,
    a few rows at a time, so memory grows with the square of the features and with features × classes, not with
    the images.
    """
    weights, offset = _solve(train, train_labels)
    right = 0
    for start, rows in _chunks(valid):
        guesses = (rows @ weights + offset).argmax(axis=1)
        right += int((guesses == valid_labels[start : start + len(rows)]).sum())
    return right / len(valid_labels)


def _solve(rows: Rows, labels: NDArray[np.int64]) -> tuple[Features, Features]:
    """Weights (features, classes) and offset (classes) of the regression on centred features."""
    classes = int(labels.max()) + 1
    share = 1.0 / (classes * np.bincount(labels, minlength=classes))[labels]
    mean = _weighted_sum(rows, share)
    width = len(mean)
    covariance, moments = np.zeros((width, width)), np.zeros((width, classes))
    for start, chunk in _chunks(rows):
        centred = chunk - mean
        weighted = centred * share[start : start + len(chunk), np.newaxis]
        covariance += weighted.T @ centred
        # Made for these rows only: all targets would take images × classes numbers.
        targets = np.eye(classes)[labels[start : start + len(chunk)]] - 1.0 / classes
        moments += weighted.T @ targets
    # A feature that never varies would else make the matrix singular.
    covariance[np.diag_indices(width)] += RIDGE * np.trace(covariance) / width + np.finfo(np.float64).tiny
    weights = np.asarray(np.linalg.solve(covariance, moments), np.float64)
    return weights, -mean @ weights


def _weighted_sum(rows: Rows, shares: Features) -> Features:
    total: Features = np.zeros(1)
    for start, chunk in _chunks(rows):
        total = total + shares[start : start + len(chunk)] @ chunk
    return total


def _chunks(rows: Rows) -> Iterator[tuple[int, Features]]:
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        chunk = rows.gather(np.arange(start, min(start + ROWS_AT_A_TIME, len(rows)))).astype(np.float64)
        yield start, chunk.mean(axis=(1, 2)) if chunk.ndim == 4 else chunk
