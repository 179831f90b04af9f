"""What came of two trainings: measures of both, and both on the images in common."""

import numpy as np
import pandas as pd
import pytest

from vggflow.evaluation.metrics import measure
from vggflow.promotion.statistics import mcnemar
from vggflow.report.run_outcomes import Outcome, Paired, Value, in_common, measures, pair, recalls

NAMES = ("cats", "dogs")
TRUTH = ["cats"] * 6 + ["dogs"] * 6


def answers(right: list[bool], first: int = 0, names=NAMES, truth=TRUTH) -> pd.DataFrame:
    """A predictions table about images that are numbered from `first`."""
    numbers = range(first, first + len(right))
    table = pd.DataFrame(
        {"path": [f"test/{n}.jpg" for n in numbers], "sha256": [f"{n:064}" for n in numbers]}
        | {"truth": truth[: len(right)]}
    )
    for name in names:
        is_true = (table["truth"] == name).to_numpy()
        table[f"p:{name}"] = np.where(np.array(right) == is_true, 0.8, 0.2)
    return table


def outcome(table: pd.DataFrame | None, split: str = "test", **more) -> Outcome:
    measured = None if table is None else {"split": split, **measure(table, NAMES, replicates=50)}
    return Outcome(measured=measured, predictions=table, **more)


A = [True] * 10 + [False] * 2
B = [True] * 4 + [False] * 8


def test_both_on_the_same_images_are_paired():
    found = pair(outcome(answers(A)), outcome(answers(B)))
    assert isinstance(found, Paired)
    assert (found.images, found.only_first, found.only_second) == (12, 6, 0)
    assert found.gain == pytest.approx(-0.5)
    assert found.interval is not None and found.interval[0] < -0.5 < found.interval[1] < 0
    assert found.p == float(mcnemar(6, 0)) and found.is_significant
    assert (found.left_out, found.not_in_common) == (0, (0, 0))


def test_a_gain_of_the_second_is_above_zero():
    found = pair(outcome(answers(B)), outcome(answers(A)))
    assert isinstance(found, Paired)
    assert found.gain == pytest.approx(0.5) and (found.only_first, found.only_second) == (0, 6)


def test_images_are_the_same_by_their_bytes_wherever_they_lie():
    moved = answers(B).assign(path=[f"elsewhere/{n}" for n in range(12)]).iloc[::-1].reset_index(drop=True)
    assert pair(outcome(answers(A)), outcome(moved)) == pair(outcome(answers(A)), outcome(answers(B)))


def test_only_images_in_common_count_and_the_others_are_told():
    found = pair(outcome(answers(A)), outcome(answers(B, first=2)))
    assert isinstance(found, Paired)
    assert (
        found.images == 8
    )  # two of the ten in common lie at the border of the classes: they have another truth
    assert found.not_in_common == (4, 4)


def test_an_image_that_is_there_twice_is_paired_twice_and_not_four_times():
    twice = pd.concat([answers(A), answers(A)], ignore_index=True)
    twice["path"] = [f"test/{n}" for n in range(24)]
    mine, theirs = in_common(twice, twice)
    assert len(mine) == len(theirs) == 24


def test_images_that_one_had_learned_from_are_left_out():
    learned = answers(A).head(3).assign(class_name="cats", split="train", error=None, excluded=None)
    found = pair(outcome(answers(A)), outcome(answers(B), trained_on=learned))
    assert isinstance(found, Paired)
    assert (found.images, found.left_out) == (9, 3)


def test_images_of_a_class_that_one_alone_knows_do_not_count():
    other = answers(B).rename(columns={"p:dogs": "p:birds"})
    found = pair(outcome(answers(A)), Outcome(measured={"split": "test"}, predictions=other))
    assert isinstance(found, Paired)
    assert found.images == 6


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (
            outcome(answers(A)),
            outcome(answers(B, first=100)),
            "no image of test in common: other test images",
        ),
        (outcome(answers(A)), outcome(answers(B), split="valid"), "A was measured on test, B on valid"),
        (outcome(answers(A)), Outcome(), "B: never evaluated"),
        (Outcome(missing="gone"), Outcome(), "A: gone; B: never evaluated"),
    ],
)
def test_why_two_can_not_be_paired_is_said(first, second, why):
    assert pair(first, second) == why


def test_measures_of_both_stand_beside_each_other_with_their_intervals():
    first, second = (
        outcome(answers(A), numbers={"model_val_accuracy": 0.9}, valid_images=100),
        outcome(answers(B)),
    )
    rows = {row.name: row for row in measures(first, second)}
    assert list(rows)[:2] == ["accuracy on valid", "accuracy on test"]
    assert rows["accuracy on test"].change == pytest.approx(-0.5)
    for name in ("accuracy on test", "log loss on test", "calibration error on test"):
        assert rows[name].first and rows[name].first.interval and rows[name].second
    valid = rows["accuracy on valid"]
    assert valid.first == Value(0.9, (0.84, 0.95)) and valid.second is None and valid.change is None


def test_what_only_the_run_has_numbers_of_is_shown_without_the_file():
    rows = measures(Outcome({"test/accuracy": 0.5, "test/images": 100.0, "test/log_loss": 0.7}), Outcome())
    assert [(row.name, row.first) for row in rows] == [
        ("accuracy on test", Value(0.5, (0.4, 0.6))),
        ("log loss on test", Value(0.7, None)),
    ]


def test_measures_on_other_splits_are_not_one_measure():
    rows = measures(outcome(answers(A)), outcome(answers(B), split="valid"))
    assert {row.name for row in rows if row.first} & {row.name for row in rows if row.second} == set()
    assert recalls(outcome(answers(A)), outcome(answers(B), split="valid")) == []


def test_classes_that_differ_most_come_first_and_unknown_ones_last():
    right = [True] * 6 + [False] * 6
    first, second = outcome(answers([True] * 12)), outcome(answers([True] * 5 + [False] * 7))
    assert [row.name for row in recalls(first, second)] == ["dogs", "cats"]
    only_cats = outcome(answers(right[:6]))
    assert [row.name for row in recalls(first, only_cats)] == ["cats", "dogs"]


def test_nothing_came_of_two_that_were_killed_at_once():
    assert measures(Outcome(), Outcome()) == [] and recalls(Outcome(), Outcome()) == []
