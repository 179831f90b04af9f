"""A search that is brought up to date finds what a search from nothing finds, whatever came before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggflow.gate import hash_index, hash_search, new_hashes
from vggflow.gate.hash_index import ENOUGH
from vggflow.gate.new_hashes import Search, search

# Three crowds, in which each hash is near nearly all others of its own; and hashes with few near them, or none.
CROWD, LONE = 60, 60


def _hashes() -> np.ndarray:
    chance = np.random.default_rng(0)
    bits = [np.uint64(1) << np.uint64(bit) for bit in (0, 1, 11, 20, 22, 30, 41, 43, 50, 63)]
    found = set(chance.integers(0, 2**64, LONE, dtype=np.uint64).tolist())
    for center in chance.integers(0, 2**64, 3, dtype=np.uint64):
        crowd: set[int] = set()
        while len(crowd) < CROWD:
            flips = chance.choice(10, chance.integers(0, 5), replace=False)
            crowd.add(int(np.bitwise_xor.reduce([center, *(bits[flip] for flip in flips)])))
        found |= crowd
    return np.array(sorted(found), dtype=np.uint64)


ALL = _hashes()
# Of each step: a seed, the share of the hashes that are drawn anew, and how many of those are there then.
STEPS = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.sampled_from([0.3, 0.9])),
    min_size=2,
    max_size=5,
)


def _histories(steps: list[tuple[int, float, float]]) -> list[np.ndarray]:
    """Whether each hash is there, after each step: some of them come or go at each one."""
    there, states = np.random.default_rng(0).random(len(ALL)) < 0.8, []
    for seed, share, filled in steps:
        chance = np.random.default_rng(seed)
        there = np.where(chance.random(len(ALL)) < share, chance.random(len(ALL)) < filled, there)
        states.append(there)
    return states


@pytest.fixture(scope="module", autouse=True)
def _small_tables():
    """Those of 22 bits take a second of each search to fill, whatever is in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_index, "PART_BITS", (13, 13, 13, 13, 12))
        patch.setattr(hash_search, "PARTS", range(5))
        yield


def _same(found: Search, expected: Search) -> None:
    assert np.array_equal(found.queries, expected.queries) and np.array_equal(found.base, expected.base)
    assert np.array_equal(np.stack(found.pairs), np.stack(expected.pairs))


@given(steps=STEPS)
@settings(max_examples=75, deadline=None)
def test_hashes_among_themselves(steps):
    before = None
    for there in _histories(steps):
        hashes = ALL[there]
        before = search(hashes, hashes, 8, before)
        _same(before, search(hashes, hashes, 8))


@given(steps=STEPS, windows=STEPS)
@settings(max_examples=75, deadline=None)
def test_windows_among_hashes(steps, windows):
    before = None
    for there, has_window in zip(_histories(steps), _histories(windows), strict=False):
        before = search(ALL[has_window], ALL[there], 6, before)
        _same(before, search(ALL[has_window], ALL[there], 6))


def test_lists_are_cut_in_these_crowds():
    counts = np.bincount(search(ALL, ALL, 8).pairs.query, minlength=len(ALL))
    near = (np.bitwise_count(ALL[:, None] ^ ALL) <= 8).sum(axis=1) - 1

    assert (near >= ENOUGH).sum() > 2 * CROWD, "crowded"
    assert (counts < near).sum() > CROWD, "cut"
    assert (near < ENOUGH).sum() >= LONE


def test_a_list_that_was_cut_at_its_last_place_takes_in_the_next_one():
    # All differ in too many bits of each part but the first: one list of `ENOUGH`, the hash itself among them.
    others = [
        sum(1 << bit for bit in (13 + one, 14 + one, 26 + two, 27 + two, 39, 40, 52))
        for one in range(0, 12, 2)
        for two in range(0, 12, 2)
    ][:ENOUGH]
    hashes = np.array(sorted([0, *others]), dtype=np.uint64)
    before = search(hashes, hashes, 8)
    listed = before.pairs.base[before.pairs.query == 0]
    assert len(listed) == ENOUGH - 1
    fewer = np.delete(hashes, listed[0])

    _same(search(fewer, fewer, 8, before), search(fewer, fewer, 8))


def test_only_new_hashes_are_asked_for(monkeypatch):
    asked: list[int] = []

    def counted(queries, *rest):
        asked.append(len(queries))
        return hash_search.look_up(queries, *rest)

    monkeypatch.setattr(new_hashes, "look_up", counted)
    chance = np.random.default_rng(1)
    hashes = np.sort(chance.integers(0, 2**64, 5000, dtype=np.uint64))
    kept = np.delete(hashes, [5, 7])
    before = search(kept, kept, 8)
    asked.clear()
    found = search(hashes, hashes, 8, before)

    assert asked == [2, 2]
    _same(found, search(hashes, hashes, 8))
