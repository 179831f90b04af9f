"""Images unlike all others, by the distance to those most like them."""

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 5
MOST_COMPARED = 20_000


def distances(
    features: NDArray[np.float32], *, most: int = MOST_COMPARED, seed: int = 0
) -> NDArray[np.float64]:
    """The mean cosine distance of each image to its five nearest others, 0 to 2, shape (n,).

    The k-nearest-neighbour outlier score (Ramaswamy, Rastogi and Shim 2000; the mean instead of the farthest: Angiulli
    and Pizzuti 2002). Zeros where there is nothing to compare with. Each is compared with `most` others, drawn once.
    """
    if len(features) < 2:
        return np.zeros(len(features))
    compared = np.arange(len(features))
    if len(features) > most:
        compared = np.sort(np.random.default_rng(seed).choice(compared, most, replace=False))
    # One more, as an image that is compared finds itself first.
    count = min(NEIGHBOURS + 1, len(compared))
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(features[compared])
    found, which = search.kneighbors(features)
    others = compared[which] != np.arange(len(features))[:, np.newaxis]
    # Without the image itself; where it is not among them, without the farthest.
    others[others.all(axis=1), -1] = False
    return np.asarray((found * others).sum(axis=1) / others.sum(axis=1), np.float64)


def unlike(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Those far beyond the others: above the upper quartile by three times the quartiles' distance (Tukey 1977)."""
    if not len(distance):
        return np.zeros(0, bool)
    lower, upper = np.quantile(distance, [0.25, 0.75])
    return np.asarray(distance > upper + 3.0 * (upper - lower), bool)
