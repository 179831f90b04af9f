"""The temperature that makes probabilities mean what they say, fitted on images that nobody trained on."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from vggflow.models.probabilities import HIGHEST, LOWEST

# 81 temperatures, each 6 % above the one before; 1.0 is the middle one.
GRID = np.geomspace(LOWEST, HIGHEST, 81)
FOLDS = 10
# Images × classes at a time: 32 MB.
ENTRIES = 4_000_000

Floats = NDArray[np.float64]


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature by which logits (N, 1) or (N, K) are to be divided (Guo et al., arXiv:1706.04599).

    It minimises the log loss of the images and of one more whose class nobody knows: where all images are
    classified right, the plain loss would ask for infinitely sharp probabilities. 1.0, which changes nothing,
    unless cross-validation shows that a fitted temperature lowers the log loss of images that it was not fitted
    on: a few images of many classes say less about the temperature than a calibrated network knows already.
    """
    losses, unknown = _tables(logits, labels)
    if not _helps(losses, unknown):
        return 1.0
    return round(_lowest(losses.sum(axis=0) + unknown.mean(axis=0)), 4)


def _helps(losses: Floats, unknown: Floats) -> bool:
    """Whether a temperature fitted on nine tenths of the images lowers the loss of the others by more than chance.

    The gain has to be larger than its standard error.
    """
    count = len(losses)
    if count < 2:
        return False
    # Always the same folds: equal logits get an equal temperature.
    folds = np.random.default_rng(0).permutation(count) % min(FOLDS, count)
    gains = np.empty(count)
    for fold in range(min(FOLDS, count)):
        others = folds != fold
        fitted = _lowest(losses[others].sum(axis=0) + unknown[others].mean(axis=0))
        inside = losses[~others]
        gains[~others] = inside[:, len(GRID) // 2] - _at(inside, fitted)
    # The standard error of a sum is √N times the deviation of one.
    return bool(gains.sum() > np.sqrt(count) * gains.std())


def _lowest(loss: Floats) -> float:
    """Where a curve over `GRID` is lowest, between its points by a parabola; at a bound the bound."""
    least = int(loss.argmin())
    if least in (0, len(GRID) - 1):
        return float(GRID[least])
    before, here, after = loss[least - 1 : least + 2]
    curvature = before - 2 * here + after
    # The lowest point of the parabola through three points; there is none on a straight line.
    shift = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    return float(GRID[least] * (GRID[1] / GRID[0]) ** shift)


def _at(losses: Floats, temperature: float) -> Floats:
    """The loss of each image at a temperature, shape (N,), between the points of `GRID` on a straight line."""
    place = np.log(temperature / LOWEST) / np.log(GRID[1] / GRID[0])
    below = min(int(place), len(GRID) - 2)
    part = place - below
    return np.asarray((1 - part) * losses[:, below] + part * losses[:, below + 1])


def _tables(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The log loss of each image at each temperature, (N, 81), for its class and for a class drawn at random."""
    true, unknown = zip(*_portions(logits, labels), strict=True)
    return np.concatenate(true), np.concatenate(unknown)


def _portions(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Iterator[tuple[Floats, Floats]]:
    rows = max(1, ENTRIES // max(2, logits.shape[1]))
    for start in range(0, len(labels), rows):
        scores = _per_class(logits[start : start + rows].astype(np.float64))
        chosen = labels[start : start + rows, np.newaxis]
        true, unknown = np.empty((len(scores), len(GRID))), np.empty((len(scores), len(GRID)))
        for column, temperature in enumerate(GRID):
            likelihood = log_softmax(scores / temperature, axis=1)
            true[:, column] = -np.take_along_axis(likelihood, chosen, axis=1)[:, 0]
            unknown[:, column] = -likelihood.mean(axis=1)
        yield true, unknown


def _per_class(logits: Floats) -> Floats:
    """One logit per class: a single one is that of the second class against a first class of 0."""
    if logits.shape[1] > 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)
