"""Pictures that are copies of each other though their bytes differ: re-encoded, resized, brightened, cropped.

Perceptual hashes say which pictures might be copies, their pixels whether they are. Pictures with little to
see in them (drawings, enlarged thumbnails, one colour) have hashes that collide, so only their bytes count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vggflow.data.comparing import Likeness
from vggflow.data.neighbours import neighbours
from vggflow.data.schema import CROP_HASHES

Progress = Callable[[int, int], None]
Indices = NDArray[np.int64]

# A cropped picture's hash is nearer to that of its window than hashes of whole copies are to each other.
NEARER_BY = 2
# Pictures of one kind, such as X-rays, have many candidates that are no copies: so many rounds are enough.
ROUNDS = 8


@dataclass(frozen=True)
class NearLimits:
    """When two pictures count as copies: bits of their hashes, likeness of their pixels, detail in both."""

    hash_distance: int
    similarity: float
    detail: float


class Marked(NamedTuple):
    """A manifest with its near copies marked, and how many pairs of look-alikes were too many to compare."""

    manifest: pd.DataFrame
    not_compared: int


def mark_near_copies(
    manifest: pd.DataFrame,
    data_folder: Path,
    limits: NearLimits,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Marked:
    """The manifest with `near_group`: one number for all pictures that are near copies, null for all others.

    Args:
        progress: called with the pairs of pictures compared and an upper limit of all.
        cache: a folder in which pairs that were compared are remembered.

    Raises:
        DataError: a picture can no longer be read.
    """
    detailed = manifest[manifest["error"].isna() & (manifest["detail"] >= limits.detail)]
    pictures = detailed.drop_duplicates("sha256").reset_index(drop=True)
    pairs = candidates(pictures, limits.hash_distance)
    files = np.array([str(data_folder / path) for path in pictures["path"]], dtype=object)
    likeness = Likeness(files, pictures["sha256"].to_numpy(dtype=object), cache)
    groups, not_compared = _group(pairs, likeness, limits.similarity, progress)
    likeness.keep()
    numbers = pd.Series(groups, index=pictures["sha256"], dtype="Int64")
    near_group = manifest["sha256"].map(numbers[numbers >= 0]).astype("Int64")
    return Marked(manifest.assign(near_group=near_group), not_compared)


def candidates(pictures: pd.DataFrame, hash_distance: int) -> Indices:
    """Pairs of row numbers that may be copies, shape (N, 2), the likeliest ones first."""
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    distinct, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack([first[which], np.arange(len(hashes))])
    near = neighbours(distinct, distinct, hash_distance)
    crops = pictures[list(CROP_HASHES)].to_numpy(dtype=np.uint64)
    cropped = neighbours(crops.ravel(), distinct, hash_distance - NEARER_BY)
    one = np.concatenate([same[0], first[near.query], cropped.query // len(CROP_HASHES)])
    other = np.concatenate([same[1], first[near.base], first[cropped.base]])
    distance = np.concatenate([np.zeros(len(hashes), np.uint8), near.distance, cropped.distance])
    pairs = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance))
    pairs = pairs[order[pairs[order, 0] != pairs[order, 1]]]
    return cast(Indices, pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])])


def _group(
    pairs: Indices, likeness: Likeness, enough: float, progress: Progress | None
) -> tuple[Indices, int]:
    """A number per picture, the same for all that are copies by one or several steps, -1 for the others; and how
    many pairs were left when the rounds were over.

    Pairs are confirmed in rounds, each picture with the likeliest one of another group: of a thousand copies
    of one picture about a thousand pairs are looked at, not half a million.
    """
    copies, looked_at = np.empty((0, 2), np.int64), 0
    for _ in range(ROUNDS):
        labels = _components(len(likeness), copies)
        pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
        if not len(pairs):
            break
        chosen = np.zeros(len(pairs), dtype=bool)
        for end in (0, 1):
            chosen[np.unique(pairs[:, end], return_index=True)[1]] = True
        alike = []
        for similarity in likeness.of(pairs[chosen]):
            alike.append(similarity >= enough)
            if progress:
                progress(looked_at + len(alike), looked_at + len(pairs))
        looked_at += len(alike)
        copies = np.concatenate([copies, pairs[chosen][np.array(alike)]])
        pairs = pairs[~chosen]
    labels = _components(len(likeness), copies)
    left = int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum())
    return _numbered(labels), left


def _components(count: int, edges: Indices) -> Indices:
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _numbered(labels: Indices) -> Indices:
    """Groups of two or more counted from 0 in the order of their first member, everything else -1."""
    _, first, which, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    numbers: Indices = np.full(len(first), -1, dtype=np.int64)
    real = np.flatnonzero(sizes > 1)
    numbers[real[np.argsort(first[real])]] = np.arange(len(real))
    return np.asarray(numbers[which], dtype=np.int64)
