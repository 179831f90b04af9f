"""Pictures that are copies of each other though their bytes differ: re-encoded, resized, brightened, cropped.

Perceptual hashes say which pictures might be copies, their pixels whether they are. Pictures with little to
see in them (drawings, enlarged thumbnails, one colour) have hashes that collide, so only their bytes count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vggflow.data.contents import Contents
from vggflow.gate.candidate_pairs import candidates
from vggflow.gate.equal_hashes import compare_equal, not_compared_equal, pairs_of_few
from vggflow.gate.hash_index import ENOUGH
from vggflow.gate.hash_search import count_near
from vggflow.gate.pair_similarity import Likeness

Progress = Callable[[int, int], None]
Indices = NDArray[np.int64]

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
        cache: a folder in which hashes that were looked up and pairs that were compared are remembered.

    Raises:
        DataError: a picture can no longer be read.
    """
    detailed = manifest[manifest["error"].isna() & (manifest["detail"] >= limits.detail)]
    # Exact copies are compared once, and get the number of their bytes in the end.
    pictures = detailed.drop_duplicates("sha256").reset_index(drop=True)
    paths = pictures["path"].to_numpy(dtype=object)
    likeness = Likeness(Contents(data_folder), paths, pictures["sha256"].to_numpy(dtype=object), cache)
    groups, not_compared = _find_groups(pictures, likeness, limits, progress, cache)
    likeness.keep()
    numbers = pd.Series(groups, index=pictures["sha256"], dtype="Int64")
    near_group = manifest["sha256"].map(numbers[numbers >= 0]).astype("Int64")
    return Marked(manifest.assign(near_group=near_group), not_compared)


def _find_groups(
    pictures: pd.DataFrame,
    likeness: Likeness,
    limits: NearLimits,
    progress: Progress | None,
    cache: Path | None,
) -> tuple[Indices, int]:
    """A number per picture, the same for all copies, -1 for the others; and the pairs that were not compared."""
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    which = np.asarray(np.unique(hashes, return_inverse=True)[1], dtype=np.int64)
    equal = compare_equal(which, likeness, limits.similarity)
    pairs = candidates(pictures, limits.hash_distance, equal.leaders, cache)
    pairs = np.concatenate([pairs_of_few(which, equal), pairs])
    labels, left = _group(pairs, equal.copies, likeness, limits.similarity, progress)
    left += not_compared_equal(which, labels, likeness.asked(), equal)
    left += _beyond_the_lists(pictures, labels, pairs, limits.hash_distance)
    return _numbered(labels), left


def _beyond_the_lists(pictures: pd.DataFrame, labels: Indices, pairs: Indices, hash_distance: int) -> int:
    """About how many pairs of look-alikes were never listed, since a hash had too many neighbours."""
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    distinct, first = np.unique(hashes, return_index=True)
    # A list that was cut has at least so many pairs beside the picture itself.
    full = np.bincount(pairs.ravel(), minlength=len(hashes))[first] >= ENOUGH - 1
    apart = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    listed = np.bincount(apart.ravel(), minlength=len(hashes))[first]
    of = labels[first]
    near = count_near(distinct[full], of[full], distinct, of, hash_distance)
    # Halved, as most pairs are counted from both ends.
    return int(np.maximum(near - listed[full], 0).sum()) // 2


def _group(
    pairs: Indices, copies: Indices, likeness: Likeness, enough: float, progress: Progress | None
) -> tuple[Indices, int]:
    """A label per picture, the same for all that are copies by one or several steps; and how many pairs were left
    when the rounds were over.

    Pairs are confirmed in rounds, each picture with the likeliest one of another group: of a thousand copies
    of one picture about a thousand pairs are looked at, not half a million.
    """
    looked_at = 0
    for _ in range(ROUNDS):
        labels = _components(len(likeness), copies)
        pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
        if not len(pairs):
            break
        chosen = np.zeros(len(pairs), dtype=bool)
        # `unique` tells where a number stands first, which is its likeliest pair.
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
    return labels, int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum())


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
