"""How far confidence can be trusted: of the answers given with 80 %, are 80 % right?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# As in Guo et al., so that errors can be compared with published ones.
BINS = 15


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in one of `BINS` equal parts of 0 to 1.

    Attributes:
        images: How many answers.
        confidence: Their mean confidence; the middle of the bin if there are none.
        accuracy: The share of them that is right; None if there are none.
    """

    images: int
    confidence: float
    accuracy: float | None


def bin_numbers(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin, 0 to `BINS` - 1, that each confidence falls in; a border belongs to the bin below it."""
    # The clip is for a confidence of 0, which would fall into bin -1.
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """The reliability diagram as a table of `BINS` rows.

    Args:
        confidence: The probability of the answer given, shape (N,).
        right: Whether the answer was right, shape (N,).
    """
    numbers = bin_numbers(confidence)
    rows = []
    for number in range(BINS):
        inside = numbers == number
        images = int(inside.sum())
        middle = (number + 0.5) / BINS
        rows.append(
            Bin(
                images,
                float(confidence[inside].mean()) if images else middle,
                float(right[inside].mean()) if images else None,
            )
        )
    return tuple(rows)


def expected_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The expected calibration error, 0 to 1: the mean gap between confidence and accuracy over the bins.

    Source: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    # The sum of confidence less right is a bin's size times its gap, so one pass does for all bins.
    gaps = np.bincount(bin_numbers(confidence), weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def without_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """The probabilities that the network gave before its logits were divided by `temperature`, shape (N, K).

    Softmax of z / T is proportional to exp(z) ** (1 / T), so raising to T and normalising takes T back.
    """
    # A certain answer gives the others 0, whose logarithm is -inf; a tiny number stands for it.
    logarithms = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) * temperature
    raised = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
