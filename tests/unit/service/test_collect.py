"""A service's answers, gathered in memory that stays flat."""

import numpy as np

from vggflow.service.collect import Collector


def test_all_are_counted_and_so_many_kept():
    collector = Collector(("a", "b"), most=10, seed=0)
    for number in range(100):
        collector.add(
            np.array([0.9, 0.1]) if number % 4 else np.array([0.2, 0.8]), np.full(3, number, np.float32)
        )
    found = collector.take()
    assert found.counts.tolist() == [75, 25]
    assert (found.images, found.chosen) == (100, 10)
    assert found.features.shape == (10, 3)
    assert found.since <= found.until


def test_every_image_has_the_same_chance():
    kept = np.zeros(60)
    for seed in range(600):
        collector = Collector(("a", "b"), most=6, seed=seed)
        for number in range(60):
            collector.add(np.array([0.9, 0.1]), np.array([number], np.float32))
        kept[collector.take().features.ravel().astype(int)] += 1
    # 60 times each on average, with a standard deviation of 7.3.
    assert kept.min() > 60 - 5 * 7.3
    assert kept.max() < 60 + 5 * 7.3


def test_what_was_taken_is_gone_and_nothing_is_nothing():
    collector = Collector(("a", "b"))
    assert collector.take() is None
    collector.add(np.array([0.9, 0.1]), None)
    found = collector.take()
    assert found.features is None
    assert found.images == 1
    assert collector.take() is None
