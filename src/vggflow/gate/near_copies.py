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

from vggflow.data.contents import Contents
from vggflow.data.schema import CROP_HASHES
from vggflow.gate.equal_hashes import compare_equal, not_compared_equal, pairs_of_few
from vggflow.gate.hash_search import ENOUGH, count_near, neighbours
from vggflow.gate.pair_similarity import Likeness

Progress = Callable[[int, int], None]
Indices = NDArray[np.int64]

# A cropped picture's hash is nearer to that of its window than hashes of whole copies are to each other.
NEARER_BY = 2
# Pictures of one kind, such as X-rays, have many candidates that are no copies: so many rounds are enough.
ROUNDS = 8
_NO_PAIRS: Indices = np.empty((0, 2), np.int64)


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
    # Exact copies are compared once, and get the number of their bytes in the end.
    pictures = detailed.drop_duplicates("sha256").reset_index(drop=True)
    paths = pictures["path"].to_numpy(dtype=object)
    likeness = Likeness(Contents(data_folder), paths, pictures["sha256"].to_numpy(dtype=object), cache)
    groups, not_compared = _find_groups(pictures, likeness, limits, progress)
    likeness.keep()
    numbers = pd.Series(groups, index=pictures["sha256"], dtype="Int64")
    near_group = manifest["sha256"].map(numbers[numbers >= 0]).astype("Int64")
    return Marked(manifest.assign(near_group=near_group), not_compared)


def _find_groups(
    pictures: pd.DataFrame, likeness: Likeness, limits: NearLimits, progress: Progress | None
) -> tuple[Indices, int]:
    """A number per picture, the same for all copies, -1 for the others; and the pairs that were not compared."""
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    which = np.asarray(np.unique(hashes, return_inverse=True)[1], dtype=np.int64)
    equal = compare_equal(which, likeness, limits.similarity)
    pairs = candidates(pictures, limits.hash_distance, equal.leaders)
    pairs = np.concatenate([pairs_of_few(which, equal), pairs])
    labels, left = _group(pairs, equal.copies, likeness, limits.similarity, progress)
    left += not_compared_equal(which, labels, likeness.asked(), equal)
    left += _beyond_the_lists(pictures, labels, pairs, limits.hash_distance)
    return _numbered(labels), left


def candidates(pictures: pd.DataFrame, hash_distance: int, leaders: Indices | None = None) -> Indices:
    """Pairs of row numbers that may be copies, shape (N, 2), the likeliest ones first.

    Args:
        leaders: the rows that stand for all pictures with their hash, sorted; by default the first of each hash,
            which the others are then paired with.
    """
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    distinct, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack([first[which], np.arange(len(hashes))], axis=1) if leaders is None else _NO_PAIRS
    groups = _Groups(which, first if leaders is None else leaders, len(distinct))
    near = neighbours(distinct, distinct, hash_distance)
    crops = pictures[list(CROP_HASHES)].to_numpy(dtype=np.uint64)
    # `ravel` lays the windows of a picture side by side, so their place divided by five is the picture's.
    cropped = neighbours(crops.ravel(), distinct, hash_distance - NEARER_BY)
    apart = near.query != near.base
    one, other, of = groups.pairs(near.query[apart], near.base[apart])
    row, base, of_crop = groups.with_members(cropped.query // len(CROP_HASHES), cropped.base)
    pairs = np.concatenate([same, np.stack([one, other], axis=1), np.stack([row, base], axis=1)])
    zeros = np.zeros(len(same), np.uint8)
    distance = np.concatenate([zeros, near.distance[apart][of], cropped.distance[of_crop]])
    # A pair that was found from both sides is one.
    pairs = np.stack([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
    # `lexsort` sorts by its last key first: the likeliest pairs come first, equal ones in one order.
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance))
    pairs = pairs[order[pairs[order, 0] != pairs[order, 1]]]
    # `unique` sorts the pairs; where each stood first brings them back into order.
    return cast(Indices, pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])])


class _Groups:
    """The rows that stand for each distinct hash."""

    def __init__(self, which: Indices, leaders: Indices, count: int) -> None:
        self._rows = leaders[np.argsort(which[leaders], kind="stable")]
        self._counts = np.bincount(which[leaders], minlength=count)
        self._begins = np.cumsum(self._counts) - self._counts

    def pairs(self, one: Indices, other: Indices) -> tuple[Indices, Indices, Indices]:
        """All pairs of rows of two hashes each, and the position of the hashes that each pair comes from."""
        of, place = _repeated(self._counts[one] * self._counts[other])
        width = self._counts[other][of]
        first = self._rows[self._begins[one][of] + place // width]
        return first, self._rows[self._begins[other][of] + place % width], of

    def with_members(self, rows: Indices, hashes: Indices) -> tuple[Indices, Indices, Indices]:
        """Each row with all rows of a hash, and the position that each pair comes from."""
        of, place = _repeated(self._counts[hashes])
        return rows[of], self._rows[self._begins[hashes][of] + place], of


def _repeated(counts: Indices) -> tuple[Indices, Indices]:
    """Positions, each as often as it counts, and the number of the time: 2, 1 gives 0 0 1 and 0 1 0."""
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) - (np.cumsum(counts) - counts)[of]


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
