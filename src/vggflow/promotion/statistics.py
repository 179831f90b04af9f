"""Exact and near-exact tests on paired right and wrong answers."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Counts = NDArray[np.int64] | int

SIGNIFICANCE = 0.05
POWER = 0.8
# Classes are never all equally hard: without a least difference a hard one looks like a lost one.
LEAST_CORRELATION, MOST_CORRELATION = 0.05, 0.95  # at 1 the parameters of the distribution are 0


def mcnemar(only_challenger: Counts, only_champion: Counts) -> NDArray[np.float64]:
    """McNemar's exact test, two-sided: the p value of equal models, 0 to 1, for each pair of counts.

    Of the images that one model alone got right, either model has half if they are equally good: a binomial
    test with p = 1/2, symmetric, so that two sides are twice the smaller one. 1.0 where no image differs.
    Source: Q. McNemar, Psychometrika 12 (1947), 153–157; exact: A. Agresti, Categorical Data Analysis.
    """
    # statsmodels gives the same to 1e-15, for one pair of counts a call: 277 ms for 1,000 classes, here 0.2 ms.
    first, second = np.asarray(only_challenger), np.asarray(only_champion)
    smaller = np.minimum(first, second)
    # Twice the smaller side is more than 1 where both counts are equal.
    return np.asarray(np.minimum(1.0, 2.0 * special.bdtr(smaller, first + second, 0.5)))


def holm(p_values: NDArray[np.float64] | Sequence[float]) -> NDArray[np.float64]:
    """P values, Holm-corrected along the last axis for the number of them.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65–70.
    """
    # statsmodels gives the same, for one set of p values a call: `benchmarks.promotion` asks for millions.
    p = np.asarray(p_values, dtype=np.float64)
    count = p.shape[-1]
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(count, 0, -1)
    corrected = np.empty_like(p)
    # No p value gets below that of a smaller one: a test that fails stops all that follow.
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
    # Not `1 - cdf`, which has no digits left where p is small.
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


def unlike_the_others(lost: Counts, images: Counts, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Per class the one-sided p value of "its images are lost as those of the other classes are".

    Where images of a class are few, McNemar's test can't find a loss among many classes, however complete it is;
    how often all the others are lost, and how much that differs between them, says what chance gives: a
    beta-binomial distribution, fitted to the others by its moments. 1.0 where it is not asked.

    Args:
        lost: Images that only the champion got right, classes along the last axis.
        images: All images of the class, of the same shape.
        asked: For which classes, of the same shape.

    Source: J. Kleinman, Journal of the American Statistical Association 68 (1973), 46–54 (moments).
    """
    x, n = np.asarray(lost, dtype=np.float64), np.asarray(images, dtype=np.float64)

    def others(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values.sum(axis=-1, keepdims=True) - values)

    # One more image lost and one more kept, so that the rate is never 0.
    rate = (others(x) + 1) / (others(n) + 2)
    # The sum of (x - rate · n)², multiplied out: each class has a rate of its own, that of its others.
    scatter = (others(x * x) - 2 * rate * others(x * n) + rate**2 * others(n * n)) / (rate * (1 - rate))
    # Pairs of images within a class: none where each of the others has one image.
    alike = np.maximum(others(n * (n - 1)), 1)
    correlation = np.clip((scatter - others(n)) / alike, LEAST_CORRELATION, MOST_CORRELATION)
    p = np.ones(x.shape)
    p[asked] = _beta_binomial_tail(x[asked], n[asked], rate[asked], correlation[asked])
    return p


def _beta_binomial_tail(
    least: NDArray[np.float64],
    images: NDArray[np.float64],
    rate: NDArray[np.float64],
    correlation: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The chance of at least so many of the images, all of shape (N,)."""
    if not len(least):
        return np.ones(0)
    first, second = (
        share[:, np.newaxis] * (1 / correlation - 1)[:, np.newaxis] for share in (rate, 1 - rate)
    )
    count, n = np.arange(int(images.max()) + 1), images[:, np.newaxis]
    left = np.maximum(n - count, 0)
    # Logarithms: binomial coefficients leave the range of a double from about a thousand images on.
    ways = special.gammaln(n + 1) - special.gammaln(count + 1) - special.gammaln(left + 1)
    chance = np.exp(ways + special.betaln(count + first, left + second) - special.betaln(first, second))
    # Rows are as long as the largest class: what lies beyond a class's own images means nothing.
    inside = (count >= least[:, np.newaxis]) & (count <= n)
    return np.asarray(np.minimum(1.0, np.where(inside, chance, 0.0).sum(axis=1)))


def images_for_a_drop(classes: int, significance: float) -> int:
    """The least images of a class in which McNemar's test, Holm-corrected for all classes, can find a loss."""
    # With all n images lost p is 2 · (1/2)^n, times the classes by Holm; the least n that is below the level.
    return int(np.floor(np.log2(2 * max(1, classes) / significance))) + 1


def smallest_gain(images: int, differing: float, significance: float, power: float = POWER) -> float | None:
    """The least gain in accuracy that McNemar's exact test shows with this power; None if it can show none.

    Args:
        images: All images compared.
        differing: The share of them that exactly one of the two models gets right; a larger gain needs more.
        significance: The level of the test, two-sided.
        power: The chance of showing it.
    """
    # The most that can be found: every image is right for the challenger alone.
    if _power(images, 1.0, 1.0, significance) < power:
        return None
    # Not a straight way down: the exact test has steps. The first of a thousand gains from which all are shown.
    low, high = 0.0, 1.0
    while high - low > 5e-4:
        middle = (low + high) / 2
        enough = _power(images, middle, max(differing, middle), significance) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(images: int, gain: float, differing: float, significance: float) -> float:
    """How often the exact test shows a gain, where this share of all images is right for one model only."""
    if images < 1 or gain <= 0.0:
        return 0.0
    # Only numbers of differing images that really come: eight standard deviations to both sides.
    spread = 8 * sqrt(images * differing * (1 - differing)) + 1
    middle = images * differing
    pairs = np.arange(max(0, int(middle - spread)), min(images, int(middle + spread)) + 1)
    # `ppf` is the first count whose chance reaches the level; one less is below it, thus significant.
    most_lost = stats.binom.ppf(significance / 2, pairs, 0.5) - 1
    shown = stats.binom.cdf(most_lost, pairs, (1 - gain / differing) / 2)
    return float((stats.binom.pmf(pairs, images, differing) * shown).sum())
