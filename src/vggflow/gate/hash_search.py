"""Hashes of 64 bits that differ in few of them, found without comparing all pairs.

See `hash_index` for how; few hashes are compared all with all.
"""

import numpy as np

from vggflow.gate import hash_nodes
from vggflow.gate.hash_index import (
    ENOUGH,
    PARTS,
    Hashes,
    Indices,
    Mask,
    Neighbours,
    PartIndex,
    joined,
    order_by_part,
)

# Up to here comparing all pairs is faster than building the indices.
FEW_PAIRS = 100_000_000
# Up to here comparing each query with all of a large base is: 1 ns a pair, where an index takes 0.2 µs a hash.
FEW_QUERIES = 64
# Hashes whose neighbours are counted one by one: three seconds for a million pictures.
COUNTED = 1000


def neighbours(queries: Hashes, base: Hashes, radius: int) -> Neighbours:
    """All pairs that differ in at most `radius` (2 or more) bits; of a hash with many, at least `ENOUGH`.

    A pair may be found more than once.
    """
    if len(queries) * len(base) <= FEW_PAIRS:
        return _compare_all(queries, base, radius)
    return look_up(queries, base, radius)


def look_up(queries: Hashes, base: Hashes, radius: int, unlisted: Mask | None = None) -> Neighbours:
    """As `neighbours`, on the nodes of a cluster where there are many queries.

    What is found of a query is up to itself and the hashes near it, whatever else is asked and in the base.

    Args:
        unlisted: set where a hash of the base is near a query that has too many, so that the pair may be missing.
    """
    if hash_nodes.is_worth_it(len(queries)):
        return hash_nodes.look_up(queries, base, radius, unlisted)
    if len(queries) > FEW_QUERIES:
        return _look_up_here(queries, base, radius, unlisted)
    found, crowded = _compare_each(queries, base, radius)
    if not len(crowded):
        return found
    hits = _look_up_here(queries[crowded], base, radius, unlisted)
    return joined([found, hits._replace(query=crowded[hits.query])])


def _look_up_here(queries: Hashes, base: Hashes, radius: int, unlisted: Mask | None) -> Neighbours:
    found = []
    for part in PARTS:
        # What lies together in the order lies together in the index too.
        order = order_by_part(queries, part)
        hits = PartIndex(base, radius, part).look_up(queries[order], unlisted)
        found.append(hits._replace(query=order[hits.query]))
    return joined(found)


def _compare_each(queries: Hashes, base: Hashes, radius: int) -> tuple[Neighbours, Indices]:
    """All pairs of the queries that have fewer than `ENOUGH`, and the other queries."""
    found, crowded = [], []
    for row, query in enumerate(queries):
        distance = np.bitwise_count(base ^ query)
        near = np.flatnonzero(distance <= radius)
        if len(near) < ENOUGH:
            found.append(Neighbours(np.full(len(near), row), near, distance[near]))
        else:
            crowded.append(row)
    return joined(found), np.array(crowded, dtype=np.int64)


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
    return joined(found)
