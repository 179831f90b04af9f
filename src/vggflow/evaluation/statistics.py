"""Exact and near-exact tests on paired right and wrong answers."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Counts = NDArray[np.int64] | int


def mcnemar(only_challenger: Counts, only_champion: Counts) -> NDArray[np.float64]:
    """McNemar's exact test, two-sided: the p value of equal models, 0 to 1, for each pair of counts.

    Of the images that one model alone got right, either model has half if they are equally good: a binomial
    test with p = 1/2, symmetric, so that two sides are twice the smaller one. 1.0 where no image differs.
    Source: Q. McNemar, Psychometrika 12 (1947), 153–157; exact: A. Agresti, Categorical Data Analysis.
    """
    first, second = np.asarray(only_challenger), np.asarray(only_champion)
    smaller = np.minimum(first, second)
    return np.asarray(np.minimum(1.0, 2.0 * special.bdtr(smaller, first + second, 0.5)))


def holm(p_values: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
    """P values, Holm-corrected along the last axis for the number of them.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65–70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    count = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(count, 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.maximum.accumulate(steps, axis=-1), axis=-1)
    return np.minimum(1.0, corrected)


def not_worse(only_challenger: int, only_champion: int, images: int, margin: float) -> float:
    """The one-sided p value of "the challenger is worse by `margin` or more", by Tango's score test.

    Args:
        only_challenger: Images that only the challenger got right.
        only_champion: Images that only the champion got right.
        images: All images compared.
        margin: An accuracy, above 0 and below 1.

    Source: T. Tango, Statistics in Medicine 17 (1998), 891–908.
    """
    return float(stats.norm.sf(_tango(only_challenger, only_champion, images, -margin)))


def _tango(only_challenger: int, only_champion: int, images: int, difference: float) -> float:
    """Tango's score for "the gain is `difference`": standard normal if that is so."""
    b, c, n, d = only_challenger, only_champion, images, difference
    linear = -b - c + (2 * n - b + c) * d
    # Rounding can take the discriminant just below its least value, zero.
    share = (sqrt(max(0.0, linear**2 + 8 * n * c * d * (1 - d))) - linear) / (4 * n)
    variance = n * (2 * share + d * (1 - d))
    surplus = b - c - n * d
    if variance <= 0:
        return 0.0 if surplus == 0 else float(np.copysign(np.inf, surplus))
    return surplus / sqrt(variance)
