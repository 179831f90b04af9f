"""Hashes of 64 bits that differ in few of them, found without comparing all pairs.

Cut into three parts, two hashes that differ in at most `radius` bits are nearly equal in one part already:
if the parts may differ in r1, r2, r3 bits with r1 + r2 + r3 = radius - 2, one of them is within its own limit
(the general pigeonhole principle; J. Qin et al., "GPH: Similarity Search in Hamming Space", 2018).
So each part is an index, in which every hash looks up its own value and all values within the limit.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

# The tables of 22 bits take 140 MB however few pictures there are; parts come one after the other.
PART_BITS = (22, 21, 21)
# So many hits do for one hash: near copies of one picture by the thousand would fill the memory otherwise.
ENOUGH = 32
# Queries looked up at once: small enough for the processor's cache.
BLOCK = 1 << 15
# Up to here comparing all pairs is faster than building the indices.
FEW_PAIRS = 100_000_000
FIRST = 2
# Hashes whose neighbours are counted one by one: three seconds for a million pictures.
COUNTED = 1000


class Neighbours(NamedTuple):
    """Pairs of positions in the queries and in the base, and the number of bits in which the two differ."""

    query: Indices
    base: Indices
    distance: NDArray[np.uint8]


def neighbours(queries: Hashes, base: Hashes, radius: int) -> Neighbours:
    """All pairs that differ in at most `radius` (2 or more) bits; of a hash with many, at least `ENOUGH`.

    A pair may be found more than once.
    """
    if len(queries) * len(base) <= FEW_PAIRS:
        return _compare_all(queries, base, radius)
    return _joined([hit for part in range(len(PART_BITS)) for hit in _look_up(queries, base, radius, part)])


def count_near(queries: Hashes, labels: Indices, base: Hashes, base_labels: Indices, radius: int) -> Indices:
    """How many hashes of another label lie near each query.

    Of more than `COUNTED` queries an even share is looked at, and stands for the others.
    """
    step = max(1, -(-len(queries) // COUNTED))
    counts = np.zeros(len(queries), dtype=np.int64)
    for position in range(0, len(queries), step):
        near = np.bitwise_count(base ^ queries[position]) <= radius
        stands_for = slice(position, position + step)
        counts[stands_for] = np.count_nonzero(base_labels[near] != labels[position])
    return counts


def part_limits(radius: int) -> tuple[int, ...]:
    """How many bits may differ in each part; the rest of the sum goes to the first ones, which are longer."""
    total, parts = radius - len(PART_BITS) + 1, len(PART_BITS)
    return tuple(total // parts + (part < total % parts) for part in range(parts))


def _compare_all(queries: Hashes, base: Hashes, radius: int) -> Neighbours:
    found = []
    # A block against 10,000 hashes makes a table of 20 MB.
    for start in range(0, len(queries), 256):
        distance = np.bitwise_count(queries[start : start + 256, None] ^ base[None, :])
        near = distance <= radius
        for crowded in np.flatnonzero(near.sum(axis=1) > ENOUGH):
            near[crowded, np.argpartition(distance[crowded], ENOUGH)[ENOUGH:]] = False
        row, place = np.nonzero(near)
        found.append(Neighbours(row + start, place, distance[row, place]))
    return _joined(found)


def _joined(found: Sequence[Neighbours]) -> Neighbours:
    if not found:
        return Neighbours(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8))
    return Neighbours(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _look_up(queries: Hashes, base: Hashes, radius: int, part: int) -> Iterator[Neighbours]:
    index = _Index(base, part)
    keys = index.keys(queries)
    order = np.argsort(keys, kind="stable")
    flips = _flips(PART_BITS[part], part_limits(radius)[part])
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        yield from _look_up_block(index, block, queries[block], keys[block], flips, radius)


def _look_up_block(
    index: "_Index", block: Indices, queries: Hashes, keys: Indices, flips: Indices, radius: int
) -> Iterator[Neighbours]:
    hits = np.zeros(len(block), dtype=np.int64)
    for flip in flips:
        for rows, places in index.near(queries, keys ^ flip, radius):
            wanted = hits[rows] < ENOUGH
            row, place = rows[wanted], places[wanted]
            # `+=` counts a repeated row once only; within one answer no row is repeated.
            hits[row] += 1
            distance = np.bitwise_count(queries[row] ^ index.hashes[place])
            yield Neighbours(block[row], index.positions[place], distance)


def _flips(bits: int, limit: int) -> Indices:
    """All ways to flip up to `limit` of so many bits, fewest first."""
    ways = [
        sum(1 << bit for bit in chosen)
        for count in range(limit + 1)
        for chosen in combinations(range(bits), count)
    ]
    return np.array(ways, dtype=np.int64)


class _Index:
    """The hashes sorted by the value of one of their parts, with where each value begins.

    The first hashes of each value lie in tables of their own, as most values have no more: a look-up is then
    one read from memory and costs a third.
    """

    def __init__(self, base: Hashes, part: int) -> None:
        self._shift, values = sum(PART_BITS[:part]), 1 << PART_BITS[part]
        self._values = np.uint64(values - 1)
        keys = self.keys(base)
        self.positions = np.argsort(keys, kind="stable")
        self.hashes = base[self.positions]
        self._counts = np.bincount(keys, minlength=values)
        self._begins = np.cumsum(self._counts) - self._counts
        self._first = [self._table(depth) for depth in range(FIRST)]
        self._has_more = self._counts > FIRST

    def keys(self, hashes: Hashes) -> Indices:
        """The values of the part."""
        return ((hashes >> np.uint64(self._shift)) & self._values).astype(np.int64)

    def near(self, queries: Hashes, keys: Indices, radius: int) -> Iterator[tuple[Indices, Indices]]:
        """Rows of the queries and places in `hashes` with the key, at most `radius` bits apart."""
        for depth, table in enumerate(self._first):
            rows = np.flatnonzero(np.bitwise_count(queries ^ table.take(keys)) <= radius)
            if rows.size:
                # An empty place in the table is 0, and so may be a hash.
                rows = rows[self._counts[keys[rows]] > depth]
                yield rows, self._begins[keys[rows]] + depth
        rows, depth = np.flatnonzero(self._has_more.take(keys)), FIRST
        while rows.size:
            places = self._begins[keys[rows]] + depth
            close = np.bitwise_count(queries[rows] ^ self.hashes[places]) <= radius
            if close.any():
                yield rows[close], places[close]
            depth += 1
            rows = rows[self._counts[keys[rows]] > depth]

    def _table(self, depth: int) -> Hashes:
        table = np.zeros(len(self._counts), dtype=np.uint64)
        filled = np.flatnonzero(self._counts > depth)
        table[filled] = self.hashes[self._begins[filled] + depth]
        return table
