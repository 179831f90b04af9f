"""An index of hashes of 64 bits, asked for those that differ in few of them from others.

Cut into three parts, two hashes that differ in at most `radius` bits are nearly equal in one part already:
if the parts may differ in r1, r2, r3 bits with r1 + r2 + r3 = radius - 2, one of them is within its own limit
(the general pigeonhole principle; J. Qin et al., "GPH: Similarity Search in Hamming Space", 2018).
So each part is an index, in which every hash looks up its own value and all values within the limit.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

# The tables of 22 bits take 140 MB however few pictures there are; parts come one after the other.
PART_BITS = (22, 21, 21)
PARTS = range(len(PART_BITS))
# What is left of a number for where a hash stands.
POSITION_BITS = 40
# So many hits do for one hash: near copies of one picture by the thousand would fill the memory otherwise.
ENOUGH = 32
# Queries looked up at once: small enough for the processor's cache.
BLOCK = 1 << 15
FIRST = 2


class Neighbours(NamedTuple):
    """Pairs of positions in the queries and in the base, and the number of bits in which the two differ."""

    query: Indices
    base: Indices
    distance: NDArray[np.uint8]


def joined(found: Iterable[Neighbours]) -> Neighbours:
    """All pairs of several searches."""
    nothing = Neighbours(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8))
    return Neighbours(*(np.concatenate(column) for column in zip(nothing, *found, strict=True)))


def part_limits(radius: int) -> tuple[int, ...]:
    """How many bits may differ in each part; the rest of the sum goes to the first ones, which are longer."""
    total, parts = radius - len(PART_BITS) + 1, len(PART_BITS)
    return tuple(total // parts + (part < total % parts) for part in range(parts))


def order_by_part(hashes: Hashes, part: int) -> Indices:
    """The positions of the hashes in the order of the part's values, equal ones as they come."""
    # Sorting numbers of value and position is four times as fast as NumPy's stable `argsort` of values.
    numbers = _part_keys(hashes, part)
    numbers <<= POSITION_BITS
    numbers |= np.arange(len(hashes))
    numbers.sort()
    numbers &= (1 << POSITION_BITS) - 1
    return numbers


def _part_keys(hashes: Hashes, part: int) -> Indices:
    """The values of a part."""
    values = np.uint64((1 << PART_BITS[part]) - 1)
    return ((hashes >> np.uint64(sum(PART_BITS[:part]))) & values).view(np.int64)


class PartIndex:
    """The hashes sorted by the value of one of their parts, with where each value begins.

    The first hashes of each value lie in tables of their own, as most values have no more: a look-up is then
    one read from memory and costs a third.
    """

    def __init__(self, base: Hashes, radius: int, part: int) -> None:
        self._radius, self._part = radius, part
        self._flips = _flips(PART_BITS[part], part_limits(radius)[part])
        self._positions = order_by_part(base, part)
        self._hashes = base[self._positions]
        self._counts = np.bincount(_part_keys(base, part), minlength=1 << PART_BITS[part])
        self._begins = np.cumsum(self._counts) - self._counts
        self._first = [self._table(depth) for depth in range(FIRST)]
        self._has_more = self._counts > FIRST

    def look_up(self, queries: Hashes, unlisted: Mask | None = None) -> Neighbours:
        """Pairs within the radius and the limit of this part, of each query the first `ENOUGH`.

        Which these are is up to the query and what is near it, in the order of the flips and then of the base: hashes
        that are not near, and other queries, change nothing.

        Args:
            queries: best in the order of their values in this part, which lie together in memory then.
            unlisted: set where a hash of the base is near a query, but not among its first ones.
        """
        # Not in threads: on two cores they took a quarter to a half more CPU time and were hardly sooner done.
        starts = range(0, len(queries), BLOCK)
        return joined(
            hit for start in starts for hit in self._hits(queries[start : start + BLOCK], start, unlisted)
        )

    def _hits(self, queries: Hashes, start: int, unlisted: Mask | None) -> Iterator[Neighbours]:
        hits, keys = np.zeros(len(queries), dtype=np.int64), _part_keys(queries, self._part)
        for flip in self._flips:
            for rows, places in self._near(queries, keys ^ flip):
                wanted = hits[rows] < ENOUGH
                row, place = rows[wanted], places[wanted]
                # `+=` counts a repeated row once only; within one answer no row is repeated.
                hits[row] += 1
                if unlisted is not None:
                    unlisted[self._positions[places[~wanted]]] = True
                distance = np.bitwise_count(queries[row] ^ self._hashes[place])
                yield Neighbours(row + start, self._positions[place], distance)

    def _near(self, queries: Hashes, keys: Indices) -> Iterator[tuple[Indices, Indices]]:
        """Rows of the queries and places in the sorted hashes with the key, within the radius."""
        for depth, table in enumerate(self._first):
            rows = np.flatnonzero(np.bitwise_count(queries ^ table.take(keys)) <= self._radius)
            if rows.size:
                # An empty place in the table is 0, and so may be a hash.
                rows = rows[self._counts[keys[rows]] > depth]
                yield rows, self._begins[keys[rows]] + depth
        rows, depth = np.flatnonzero(self._has_more.take(keys)), FIRST
        while rows.size:
            places = self._begins[keys[rows]] + depth
            close = np.bitwise_count(queries[rows] ^ self._hashes[places]) <= self._radius
            if close.any():
                yield rows[close], places[close]
            depth += 1
            rows = rows[self._counts[keys[rows]] > depth]

    def _table(self, depth: int) -> Hashes:
        table = np.zeros(len(self._counts), dtype=np.uint64)
        filled = np.flatnonzero(self._counts > depth)
        table[filled] = self._hashes[self._begins[filled] + depth]
        return table


def _flips(bits: int, limit: int) -> Indices:
    """All ways to flip up to `limit` of so many bits, fewest first."""
    ways = [
        sum(1 << bit for bit in chosen)
        for count in range(limit + 1)
        for chosen in combinations(range(bits), count)
    ]
    return np.array(ways, dtype=np.int64)
