"""Hashes that differ in few bits are all found, and only those."""

import numpy as np
import pytest

from vggflow.gate import hash_search as module
from vggflow.gate.hash_index import ENOUGH, PART_BITS, part_limits
from vggflow.gate.hash_search import neighbours


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def flipped(values: np.ndarray, bits: int, seed: int = 1) -> np.ndarray:
    chance = np.random.default_rng(seed)
    result = values.copy()
    for position in range(len(values)):
        for bit in chance.choice(64, bits, replace=False):
            result[position] ^= np.uint64(1) << np.uint64(bit)
    return result


def found(queries: np.ndarray, base: np.ndarray, radius: int) -> dict[tuple[int, int], int]:
    hits = neighbours(queries, base, radius)
    pairs = zip(hits.query.tolist(), hits.base.tolist(), strict=True)
    return dict(zip(pairs, hits.distance.tolist(), strict=True))


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("radius", [2, 6, 8, 10])
def test_the_pairs_within_the_radius_are_those_of_comparing_all(monkeypatch, radius, indexed):
    monkeypatch.setattr(module, "FEW_PAIRS", 0 if indexed else 10**9)
    base = hashes(800)
    queries = np.concatenate([flipped(base[60 * bits : 60 * bits + 60], bits) for bits in range(12)])
    distance = np.bitwise_count(queries[:, None] ^ base[None, :])
    expected = {(int(q), int(b)): int(distance[q, b]) for q, b in np.argwhere(distance <= radius)}

    assert found(queries, base, radius) == expected
    assert len(expected) >= 60 * (radius + 1)


def test_part_limits_leave_no_pair_out():
    for radius in range(2, 17):
        assert sum(part_limits(radius)) == radius - len(PART_BITS) + 1
    assert sum(PART_BITS) == 64


@pytest.mark.parametrize("indexed", [False, True])
def test_equal_hashes_by_the_thousand_stay_bounded(monkeypatch, indexed):
    monkeypatch.setattr(module, "FEW_PAIRS", 0 if indexed else 10**9)
    same = np.full(3000, hashes(1)[0])
    hits = neighbours(same, same, 8)

    assert np.bincount(hits.query).min() >= ENOUGH
    assert len(hits.query) < 3000 * ENOUGH * 10


def test_nothing_near_is_nothing():
    hits = neighbours(np.array([0], np.uint64), np.array([2**64 - 1], np.uint64), 8)

    assert len(hits.query) == len(hits.base) == len(hits.distance) == 0


def test_a_hash_of_zero_is_not_taken_for_an_empty_place(monkeypatch):
    monkeypatch.setattr(module, "FEW_PAIRS", 0)

    assert found(np.array([0], np.uint64), hashes(50), 8) == {}


def test_of_a_hash_with_very_many_the_nearest_are_kept():
    base = np.concatenate([flipped(np.full(200, hashes(1)[0]), 8), hashes(1)])

    assert found(hashes(1), base, 8)[0, 200] == 0
