"""A search among hashes that was made before, brought up to date by asking for what is new only.

The pairs are those of a search from nothing: a hash with fewer than `ENOUGH` neighbours has all of them, so new ones
are added to it and those that are gone fall out. The list of a hash with more is cut, so it is asked again
where anything near it has come or a listed one has gone; nothing else changes it (see `PartIndex.look_up`).
"""

from typing import NamedTuple

import numpy as np

from vggflow.gate.hash_index import ENOUGH, Hashes, Indices, Mask, Neighbours
from vggflow.gate.hash_search import look_up

# A list of that many may have been cut: the hash itself is not counted where it is in the base.
MAY_BE_CUT = ENOUGH - 1
# Where a larger share of the hashes is new, a search from nothing takes no longer.
MOST_NEW = 0.5


class Pairs(NamedTuple):
    """Positions in the queries and in the base, each pair once, in order."""

    query: Indices
    base: Indices


class Search(NamedTuple):
    """Hashes that were looked up, the base, both sorted and without repeats, and the pairs that were found."""

    queries: Hashes
    base: Hashes
    pairs: Pairs


def search(queries: Hashes, base: Hashes, radius: int, before: Search | None = None) -> Search:
    """Pairs of different hashes, and of equal ones where the queries are not the base itself, within the radius.

    Args:
        queries: sorted, without repeats; the same array as `base` where hashes are looked up among themselves.
        base: sorted, without repeats.
        radius: as in `neighbours`.
        before: an earlier search of the same kind and radius.
    """
    if before is None or _mostly_new(queries, before.queries) or _mostly_new(base, before.base):
        rows = np.arange(len(queries))
        return Search(queries, base, _ordered(_asked(rows, queries, base, radius), queries, base))
    known, asked = _known(before, queries, base, radius)
    found = _asked(asked, queries, base, radius)
    pairs = Pairs(np.concatenate([known.query, found.query]), np.concatenate([known.base, found.base]))
    return Search(queries, base, _ordered(pairs, queries, base))


def _mostly_new(hashes: Hashes, before: Hashes) -> bool:
    return int(np.count_nonzero(_places(hashes, before) < 0)) > MOST_NEW * len(hashes)


def _asked(rows: Indices, queries: Hashes, base: Hashes, radius: int) -> Pairs:
    """What is near some of the queries."""
    if not len(rows):
        return Pairs(rows, rows)
    found = look_up(queries if len(rows) == len(queries) else queries[rows], base, radius)
    return Pairs(rows[found.query], found.base)


def _known(before: Search, queries: Hashes, base: Hashes, radius: int) -> tuple[Pairs, Indices]:
    """The pairs of queries whose lists are complete without asking, and the other queries, which are to be asked."""
    old_query, old_base = _places(before.queries, queries), _places(before.base, base)
    query, other = old_query[before.pairs.query], old_base[before.pairs.base]
    stays = (query >= 0) & (other >= 0)
    came, unlisted = _near_new(_missing(old_base, len(base)), queries, base, radius)
    one, another = np.concatenate([query[stays], came.query]), np.concatenate([other[stays], came.base])
    changed = np.zeros(len(queries), dtype=bool)
    changed[came.query] = True
    changed[query[(query >= 0) & (other < 0)]] = True
    may_be_cut = _counts(query[query >= 0], queries) >= MAY_BE_CUT
    may_be_cut |= _counts(one, queries) >= MAY_BE_CUT
    asked = unlisted | (changed & may_be_cut)
    asked[_missing(old_query, len(queries))] = True
    complete = ~asked[one]
    return Pairs(one[complete], another[complete]), np.flatnonzero(asked)


def _near_new(new: Indices, queries: Hashes, base: Hashes, radius: int) -> tuple[Pairs, Mask]:
    """Pairs of queries and what is new in the base; and the queries that may be in further ones.

    Looked up from the other side, among the queries: so the work grows with the number of new ones.
    """
    unlisted = np.zeros(len(queries), dtype=bool)
    if not len(new):
        return Pairs(new, new), unlisted
    found: Neighbours = look_up(base[new], queries, radius, unlisted)
    return Pairs(found.base, new[found.query]), unlisted


def _places(hashes: Hashes, among: Hashes) -> Indices:
    """Where each hash lies among sorted ones, -1 where it does not."""
    if not len(among):
        return np.full(len(hashes), -1, dtype=np.int64)
    places = np.searchsorted(among, hashes)
    places[places == len(among)] = 0
    places[among[places] != hashes] = -1
    return places


def _missing(places: Indices, count: int) -> Indices:
    """The positions below `count` that are not among the places."""
    missing = np.ones(count, dtype=bool)
    missing[places[places >= 0]] = False
    return np.flatnonzero(missing)


def _counts(positions: Indices, hashes: Hashes) -> Indices:
    return np.bincount(positions, minlength=len(hashes))


def _ordered(pairs: Pairs, queries: Hashes, base: Hashes) -> Pairs:
    """Each pair once, by its positions; without those of a hash and itself where the queries are the base."""
    apart = pairs.query != pairs.base if queries is base else np.ones(len(pairs.query), dtype=bool)
    # One number a pair: 100 million pictures give numbers below 2^56.
    numbers = np.sort(pairs.query[apart] * len(base) + pairs.base[apart])
    numbers = numbers[np.diff(numbers, prepend=-1) > 0]
    return Pairs(*np.divmod(numbers, max(1, len(base))))
