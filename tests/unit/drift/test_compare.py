"""Two-sample tests on features and classes: what moved is found, what did not is left alone."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from vggflow.drift import compare
from vggflow.drift.compare import CLASS_SHARES
from vggflow.prediction import observations
from vggflow.report import drift_page

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def answers(count, seed, classes=2, features=24, shift=0.0, tilt=0.0):
    """Answers of which class 0 has `tilt` more than its share; what all features have in common is moved."""
    random = np.random.default_rng(seed)
    shares = np.full(classes, (1 - tilt) / classes)
    shares[0] += tilt
    truth = random.choice(classes, count, p=shares)
    probabilities = np.full((count, classes), 0.1 / max(1, classes - 1))
    probabilities[np.arange(count), truth] = 0.9
    values = random.normal(size=(count, features)) + random.normal(shift, size=(count, 1))
    return observations.of(
        tuple(f"c{n}" for n in range(classes)),
        probabilities,
        values.astype(np.float32) if features else None,
        NOW,
    )


@pytest.mark.parametrize("classes", [2, 10, 1_000])
def test_equal_answers_are_no_drift(classes):
    found = compare.compare(answers(400, 0, classes), answers(200, 1, classes))
    assert not found.found
    assert (found.images, found.held_out, found.classes_alone) == (200, 400, "")
    assert [shift.name for shift in found.shifts] == [
        *(f"component {n}" for n in range(1, 11)),
        CLASS_SHARES,
    ]


def test_features_that_moved_are_found_and_named():
    found = compare.compare(answers(400, 0), answers(200, 1, shift=0.8))
    assert [shift.name for shift in found.moved] == ["component 1"]
    assert found.moved[0].p_value < 1e-5
    assert found.moved[0].distance > 0.2


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_shares_that_moved_are_found_and_the_class_is_named(classes):
    found = compare.compare(answers(400, 0, classes), answers(200, 1, classes, tilt=0.4))
    assert [(shift.name, shift.about) for shift in found.moved] == [(CLASS_SHARES, "c0")]
    before, now = found.shares["c0"]
    assert now - before > 0.2


def test_without_features_classes_alone_are_compared():
    found = compare.compare(answers(400, 0), answers(200, 1, features=0, tilt=0.4))
    assert "kept without features" in found.classes_alone
    assert "classes alone: the answers were kept without features" in drift_page.verdict(found)
    assert [shift.name for shift in found.shifts] == [CLASS_SHARES]
    assert found.found


def test_p_values_are_corrected_for_their_number():
    alone = compare.compare(answers(400, 0, features=0), answers(200, 1, features=0, tilt=0.15))
    among = compare.compare(answers(400, 0), answers(200, 1, tilt=0.15))
    (share,) = alone.shifts
    # Two questions; that of the classes has one test.
    assert among.shifts[-1].p_value == pytest.approx(min(1.0, 2 * share.p_value), rel=1e-9)


def test_of_a_million_answers_a_difference_that_means_nothing_is_no_drift():
    before, now = answers(400, 0, features=0), answers(200, 1, features=0)
    many = now.counts * 5_000
    many[0] += 1_000
    assert not compare.compare(before, observations.Observations(**(vars(now) | {"counts": many}))).found


def test_a_look_at_fewer_images_than_components_does_not_fail():
    assert not compare.compare(answers(6, 0), answers(5, 1)).found


def test_other_classes_are_a_mistake():
    with pytest.raises(ValueError, match="one model"):
        compare.compare(answers(60, 0, 2), answers(60, 1, 3))


def test_false_alarms_are_as_rare_as_is_said():
    """Of 100 looks one is expected to be wrong at most; six or more have a chance of 1 in 1,700."""
    alarms = sum(
        compare.compare(answers(200, 2 * seed, features=12), answers(100, 2 * seed + 1, features=12)).found
        for seed in range(100)
    )
    assert alarms < 6


def test_features_count_alike_however_large_they_are():
    """A block whose numbers are small would else be in no component, and what it alone sees not be found."""
    sizes = np.array([1e-3] * 12 + [1e3] * 12)

    def sized(found):
        return replace(found, features=(found.features * sizes).astype(np.float16))

    before, now = answers(400, 0), answers(200, 1)
    assert now.features is not None
    now.features[:, :12] += 0.7
    assert compare.compare(sized(before), sized(now)).found
    assert not compare.compare(sized(before), sized(answers(200, 1))).found


def test_a_feature_that_is_always_the_same_does_no_harm():
    before, now = answers(400, 0), answers(200, 1)
    for side in (before, now):
        assert side.features is not None
        side.features[:, 3] = np.finfo(np.float16).max
    assert not compare.compare(before, now).found


def test_other_features_than_the_held_out_ones_are_not_compared():
    found = compare.compare(answers(400, 0, features=24), answers(200, 1, features=12))
    assert found.classes_alone == "the answers were kept with the features of another vggflow version"
