"""Images to label next: the hardest ones, no copies, and not all of one kind."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vggflow.audit.most_informative import choose

Features = NDArray[np.float32]


@pytest.fixture
def labelled() -> tuple[Features, NDArray[np.int64]]:
    random = np.random.default_rng(0)
    features = np.concatenate([np.tile([6.0, 0, 0, 0], (30, 1)), np.tile([0.0, 6, 0, 0], (30, 1))])
    return (features + random.normal(0, 0.5, features.shape)).astype(np.float32), np.repeat([0, 1], 30)


def between(share: float, side: float = 0.0) -> list[float]:
    """A vector between both classes; `side` is a direction that no labelled image has."""
    return [6 * (1 - share), 6 * share, side, 0.0]


def test_what_lies_between_the_classes_comes_first(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    candidates = np.array([between(0.02), between(0.5, 3.0), between(0.98), between(0.42, -3.0)], np.float32)
    found = choose(*labelled, candidates, 2)
    assert found.rows.tolist()[0] == 1
    assert set(found.rows.tolist()) == {1, 3}
    assert found.margin[0] < found.margin[1]
    assert (found.probability >= 0.5).all()


def test_copies_are_passed_over(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    hard = between(0.5, 3.0)
    candidates = np.array([hard, np.array(hard) * 1.01, hard, labelled[0][0], between(0.5, -3.0)], np.float32)
    found = choose(*labelled, candidates, 5)
    assert len(set(found.rows.tolist()) & {0, 1, 2}) == 1
    assert 4 in found.rows and 3 not in found.rows
    assert found.copies == 3


def test_a_copy_of_a_test_image_is_passed_over(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    candidates = np.array([between(0.5, 3.0), between(0.5, -3.0)], np.float32)
    assert choose(*labelled, candidates, 2, kept_apart=candidates[:1]).rows.tolist() == [1]


def test_of_the_hardest_those_that_lie_apart_are_taken(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    # Nine of one kind and one of another, all equally hard.
    random = np.random.default_rng(1)
    alike = np.array([between(0.5, 4.0)] * 9) + random.normal(0, 0.4, (9, 4))
    candidates = np.concatenate([alike, [between(0.5, -4.0)]]).astype(np.float32)
    assert 9 in choose(*labelled, candidates, 4).rows


def test_fewer_candidates_than_asked_for_are_no_error(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    assert len(choose(*labelled, np.array([between(0.5)], np.float32), 100).rows) == 1


def test_without_two_classes_nothing_is_hard(labelled: tuple[Features, NDArray[np.int64]]) -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        choose(labelled[0][:30], labelled[1][:30], labelled[0], 3)
