"""Labels that are wrong are found by what other images teach, also where classes are few, many or lopsided."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vggflow.audit import out_of_fold as module
from vggflow.audit.out_of_fold import out_of_fold


def clouds(per_class: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors around a point for each class, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    middles = random.normal(0.0, 1.0, (classes, 32)) * 4
    return (middles[labels] + random.normal(0.0, 1.5, (len(labels), 32))).astype(np.float32), labels


def alone(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.arange(len(labels))


@pytest.mark.parametrize(("classes", "per_class"), [(2, 200), (10, 40), (100, 8)])
def test_swapped_labels_have_the_least_probability(classes: int, per_class: int) -> None:
    features, labels = clouds(per_class, classes)
    random = np.random.default_rng(1)
    swapped = random.choice(len(labels), len(labels) // 20, replace=False)
    wrong = labels.copy()
    wrong[swapped] = (labels[swapped] + 1 + random.integers(0, classes - 1, len(swapped))) % classes
    found = out_of_fold(features, wrong, alone(wrong))
    first = np.argsort(found.given)[: len(swapped)]
    assert len(set(first) & set(swapped)) >= 0.9 * len(swapped)
    assert (found.suggested[swapped] == labels[swapped]).mean() >= 0.9
    assert ((found.given >= 0) & (found.given <= found.probability + 1e-9)).all()


def test_a_copy_does_not_vouch_for_its_own_wrong_label() -> None:
    features, labels = clouds(30, 2)
    # Ten copies of one image of the first class, all labelled as the second.
    features = np.concatenate([features, np.repeat(features[:1], 10, axis=0)])
    labels = np.concatenate([labels, np.ones(10, np.int64)])
    copies = np.concatenate([np.arange(60), np.zeros(10, np.int64)])
    together = out_of_fold(features, labels, copies)
    assert (together.suggested[60:] == 0).all()
    apart = out_of_fold(features, labels, alone(labels))
    assert together.given[60:].mean() < apart.given[60:].mean()


def test_the_same_images_give_the_same_answers() -> None:
    features, labels = clouds(20, 3)
    first, second = (out_of_fold(features, labels, alone(labels)) for _ in range(2))
    assert np.array_equal(first.given, second.given)
    assert not np.array_equal(first.given, out_of_fold(features, labels, alone(labels), seed=7).given)


def test_a_class_with_one_image_is_looked_at_too() -> None:
    features, labels = clouds(20, 2)
    labels[-1] = 2
    found = out_of_fold(features, labels, alone(labels))
    assert found.given[-1] == 0.0
    assert found.suggested[-1] in (0, 1)


def test_vectors_that_say_nothing_are_no_error() -> None:
    labels = np.repeat([0, 1], 10)
    found = out_of_fold(np.zeros((20, 4), np.float32), labels, alone(labels))
    assert np.isfinite(found.given).all()


def test_many_images_are_taught_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(100, 2)
    monkeypatch.setattr(module, "MOST_TO_LEARN_FROM", 40)
    found = out_of_fold(features, labels, alone(labels))
    assert (found.suggested == labels).mean() > 0.95


@pytest.mark.parametrize(("labels", "groups"), [([0, 0, 0], [0, 1, 2]), ([0, 1, 1], [0, 0, 0])])
def test_one_class_or_one_image_can_t_be_doubted(labels: list[int], groups: list[int]) -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        out_of_fold(np.ones((3, 2), np.float32), np.array(labels), np.array(groups))


def test_with_many_images_copies_stay_together_and_classes_are_spread() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 500)
    groups = random.integers(0, 4_000, len(labels))
    assert len(labels) > module.MOST_TO_BALANCE
    folds = module._folds(labels, groups, seed=0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(labels)))
    for number, fold in enumerate(folds):
        others = np.concatenate([other for place, other in enumerate(folds) if place != number])
        assert not set(groups[fold]) & set(groups[others])
    alone_folds = module._folds(labels, alone(labels), seed=0)
    assert {tuple(np.bincount(labels[fold])) for fold in alone_folds} == {(100,) * 12}
    assert not np.array_equal(alone_folds[0], module._folds(labels, alone(labels), seed=1)[0])


def test_a_classifier_learns_from_no_more_than_it_may() -> None:
    features, labels = clouds(200, 2)
    labels[:10] = 1
    few = out_of_fold(features, labels, alone(labels), most=40)
    assert (few.suggested[:10] == 0).all()
    assert not np.allclose(few.given, out_of_fold(features, labels, alone(labels)).given)
    assert np.array_equal(few.given, out_of_fold(features, labels, alone(labels), most=40).given)
