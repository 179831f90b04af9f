"""The temperature that makes probabilities mean what they say, fitted on images that nobody trained on."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Outside of this range something else than the sharpness of the probabilities is wrong.
LOWEST, HIGHEST = 0.1, 10.0


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature by which logits (N, 1) or (N, K) are to be divided (Guo et al., arXiv:1706.04599).

    It minimises the log loss on targets smoothed by one image per class (after Platt 1999): where all images
    are classified right, the plain loss would ask for infinitely sharp probabilities.
    """
    scores = _per_class(logits.astype(np.float64))
    count, classes = scores.shape
    targets = np.full(scores.shape, 1.0 / (count + classes))
    targets[np.arange(count), labels] += count / (count + classes)

    def loss(log_temperature: float) -> float:
        return float(-(targets * log_softmax(scores / np.exp(log_temperature), axis=1)).sum() / count)

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def _per_class(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """One logit per class: a single one is that of the second class against a first class of 0."""
    if logits.shape[1] > 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)
