"""The search for near hashes on the nodes of a cluster: each holds an index of all, and looks blocks of them up."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vggflow import cluster, cluster_workers
from vggflow.gate.hash_index import (
    BLOCK,
    PARTS,
    Hashes,
    Indices,
    Mask,
    Neighbours,
    PartIndex,
    joined,
    order_by_part,
)

# So many take three seconds of a core here, and a node needs about that to start and to build its indices.
FEWEST_FOR_NODES = 1_000_000
# A piece of work: 4 MB, and half a second of a core among a million hashes.
BLOCKS_PER_PIECE = 16


@dataclass(frozen=True)
class Base:
    """What is searched, and how many bits may differ."""

    hashes: Hashes
    radius: int


@dataclass(frozen=True)
class Asked:
    """Hashes to look up in one part."""

    part: int
    queries: Hashes


class HashNode:
    """A node that holds the index of the part that is asked for."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._building = threading.Lock()
        self._part = -1
        self._index: PartIndex | None = None

    def work(self, asked: Asked) -> tuple[Neighbours, Indices]:
        """Pairs of positions in what was asked and in the base, and what `look_up` calls unlisted, as positions."""
        index = self._index_of(asked.part)
        unlisted = np.zeros(len(self._base.hashes), dtype=bool)
        found = index.look_up(asked.queries, unlisted)
        return found, np.flatnonzero(unlisted)

    def _index_of(self, part: int) -> PartIndex:
        # One at a time: two threads work, and each index takes 24 bytes a hash and 140 MB.
        with self._building:
            if self._index is None or self._part != part:
                self._index = None
                self._part, self._index = part, PartIndex(self._base.hashes, self._base.radius, part)
            return self._index


def is_worth_it(queries: int) -> bool:
    """Whether nodes look so many hashes up."""
    return cluster.is_named() and queries >= FEWEST_FOR_NODES


def look_up(queries: Hashes, base: Hashes, radius: int, unlisted: Mask | None) -> Neighbours:
    """As `hash_search.look_up`.

    Raises:
        VggflowError: the cluster failed.
    """
    found = []
    with closing(cluster_workers.for_each(HashNode, Base(base, radius), _pieces(queries))) as answers:
        for (_, rows), (hits, beyond) in zip(_blocks(queries), answers, strict=True):
            found.append(hits._replace(query=rows[hits.query]))
            if unlisted is not None:
                unlisted[beyond] = True
    return joined(found)


def _pieces(queries: Hashes) -> Iterator[Asked]:
    return (Asked(part, queries[rows]) for part, rows in _blocks(queries))


def _blocks(queries: Hashes) -> Iterator[tuple[int, Indices]]:
    """Parts, and positions in the queries that are looked up together."""
    for part in PARTS:
        order = order_by_part(queries, part)
        for start in range(0, len(order), BLOCKS_PER_PIECE * BLOCK):
            yield part, order[start : start + BLOCKS_PER_PIECE * BLOCK]
