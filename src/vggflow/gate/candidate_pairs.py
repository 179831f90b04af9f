"""Pairs of pictures that may be copies of each other, by their perceptual hashes."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.data.schema import CROP_HASHES
from vggflow.gate.hash_index import Hashes, Indices, Neighbours
from vggflow.gate.hash_memory import HashMemory
from vggflow.gate.hash_search import FEW_PAIRS, neighbours
from vggflow.gate.new_hashes import Search

# A cropped picture's hash is nearer to that of its window than hashes of whole copies are to each other.
NEARER_BY = 2
_NO_PAIRS: Indices = np.empty((0, 2), np.int64)


def candidates(
    pictures: pd.DataFrame,
    hash_distance: int,
    leaders: Indices | None = None,
    cache: Path | None = None,
) -> Indices:
    """Pairs of row numbers that may be copies, shape (N, 2), the likeliest ones first.

    Args:
        leaders: the rows that stand for all pictures with their hash, sorted; by default the first of each hash,
            which the others are then paired with.
        cache: a folder in which the search is remembered; the pairs are the same with and without it.
    """
    hashes = pictures["perceptual_hash"].to_numpy(dtype=np.uint64)
    distinct, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    same = np.stack([first[which], np.arange(len(hashes))], axis=1) if leaders is None else _NO_PAIRS
    leaders = np.sort(first) if leaders is None else leaders
    groups = _Groups(which[leaders], leaders, len(distinct))
    crops = pictures[list(CROP_HASHES)].to_numpy(dtype=np.uint64)
    near, cropped, windows = _search(distinct, crops, hash_distance, cache)
    one, other, of = _pairs_of_rows(groups, near.query, groups, near.base)
    row, base, of_crop = _pairs_of_rows(windows, cropped.query, groups, cropped.base)
    pairs = np.concatenate([same, np.stack([one, other], axis=1), np.stack([row, base], axis=1)])
    zeros = np.zeros(len(same), np.uint8)
    distance = np.concatenate([zeros, near.distance[of], cropped.distance[of_crop]])
    # A pair that was found from both sides is one.
    pairs = np.stack([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
    # `lexsort` sorts by its last key first: the likeliest pairs come first, equal ones in one order.
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance))
    pairs = pairs[order[pairs[order, 0] != pairs[order, 1]]]
    # `unique` sorts the pairs; where each stood first brings them back into order.
    return cast(Indices, pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])])


class _Groups:
    """The rows that stand for each of so many hashes: `numbers` says which hash each row is for."""

    def __init__(self, numbers: Indices, rows: Indices, count: int) -> None:
        self.rows = rows[np.argsort(numbers, kind="stable")]
        self.counts = np.bincount(numbers, minlength=count)
        self.begins = np.cumsum(self.counts) - self.counts


def _pairs_of_rows(
    ones: _Groups, one: Indices, others: _Groups, other: Indices
) -> tuple[Indices, Indices, Indices]:
    """All pairs of rows of two hashes each, and the position of the hashes that each pair comes from."""
    of, place = _repeated(ones.counts[one] * others.counts[other])
    width = others.counts[other][of]
    first = ones.rows[ones.begins[one][of] + place // width]
    return first, others.rows[others.begins[other][of] + place % width], of


def _repeated(counts: Indices) -> tuple[Indices, Indices]:
    """Positions, each as often as it counts, and the number of the time: 2, 1 gives 0 0 1 and 0 1 0."""
    of = np.repeat(np.arange(len(counts)), counts)
    return of, np.arange(len(of)) - (np.cumsum(counts) - counts)[of]


def _search(
    hashes: Hashes, crops: NDArray[np.uint64], radius: int, cache: Path | None
) -> tuple[Neighbours, Neighbours, _Groups]:
    """Near hashes; windows near hashes, by the numbers of the windows; and the rows of those numbers.

    Args:
        hashes: sorted, without repeats.
        crops: of the windows, a row for each picture.
    """
    # The way hangs on the pictures there are, not on what is new, or the cut lists of crowded hashes would too.
    if len(hashes) ** 2 <= FEW_PAIRS:
        near = neighbours(hashes, hashes, radius)
        # `ravel` lays the windows of a picture side by side, so their place divided by five is the picture's.
        cropped = neighbours(crops.ravel(), hashes, radius - NEARER_BY)
        numbers = np.arange(crops.size)
        return near, cropped, _Groups(numbers, numbers // len(CROP_HASHES), crops.size)
    found = HashMemory(cache, radius, radius - NEARER_BY).search(hashes, _distinct(crops))
    asked, number = np.unique(found.cropped.pairs.query, return_inverse=True)
    values = found.cropped.queries[asked]
    cropped = _with_distances(found.cropped)._replace(query=number)
    return _with_distances(found.near), cropped, _windows(values, crops)


def _windows(values: Hashes, crops: NDArray[np.uint64]) -> _Groups:
    """The rows of the pictures that have a window with each of the values, which are sorted."""
    rows, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    # Column by column, as the places of all windows at once take as much memory as they do.
    for column in crops.T if len(values) else ():
        places = np.minimum(np.searchsorted(values, column), len(values) - 1)
        has = np.flatnonzero(values[places] == column)
        rows.append(has)
        numbers.append(places[has])
    return _Groups(np.concatenate(numbers), np.concatenate(rows), len(values))


def _distinct(hashes: NDArray[np.uint64]) -> Hashes:
    """Sorted, without repeats. NumPy's `unique` takes forty times as long for millions."""
    found = np.sort(hashes, axis=None)
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def _with_distances(search: Search) -> Neighbours:
    query, base = search.pairs
    return Neighbours(query, base, np.bitwise_count(search.queries[query] ^ search.base[base]))
