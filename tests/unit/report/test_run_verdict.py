"""One sentence: what came of B compared with A, whether that may be chance, and what they differ in."""

import pytest

from vggflow.report.run_differences import differences, with_images
from vggflow.report.run_outcomes import Outcome, Paired, Value
from vggflow.report.run_verdict import p_value, verdict, written

RUN = {"train.seed": "0", "train.lr": "0.1", "data.hash": "a.dir", "sha256.vggflow": "5", "git.commit": "c"}
SAME = differences(RUN, RUN)
WORSE = Paired(200, 9, 4, -0.025, (-0.041, -0.009), 0.004)


def numbers(accuracy: float, images: float = 200) -> Outcome:
    return Outcome({"test/accuracy": accuracy, "test/images": images})


def said(made=SAME, first=None, second=None, paired=WORSE) -> str:
    return verdict(made, first or Outcome(), second or Outcome(), paired)


def test_worse_beyond_chance_and_only_the_data_differs():
    assert said(differences(RUN, RUN | {"data.hash": "b.dir"})) == (
        "B is worse by 2.5 points (95 % −4.1 to −0.9, p = 0.004, on 200 images in common); "
        "settings and code are the same, data differs"
    )


def test_a_difference_that_may_be_chance_is_called_so():
    paired = Paired(200, 4, 5, 0.005, (-0.025, 0.035), 1.0)
    assert said(paired=paired).startswith(
        "B is better by 0.5 points, which may be chance (95 % −2.5 to +3.5, p = 1.00, on 200 images in common);"
    )


@pytest.mark.parametrize(
    ("paired", "beginning"),
    [
        (Paired(1, 0, 0, 0.0, (0.0, 0.0), 1.0), "A and B are right on the same of 1 image in common"),
        (Paired(50, 3, 3, 0.0, (-0.1, 0.1), 1.0), "A and B are equally accurate (95 % −10.0 to +10.0,"),
        (
            Paired(9_999, 9, 4, -0.0001, None, 0.0001),
            "B is worse by 0.01 points (95 % unknown, p < 0.001, on 9,999",
        ),
    ],
)
def test_equal_and_nearly_equal_models(paired, beginning):
    assert said(paired=paired).startswith(beginning)


@pytest.mark.parametrize(
    ("first", "second", "beginning"),
    [
        (
            0.9,
            0.6,
            "B is worse by 30.0 points in accuracy on test, more than chance explains (90.0 % (85.5–94.0) →",
        ),
        (0.9, 0.88, "B is worse by 2.0 points in accuracy on test, which may be chance ("),
        (0.9, 0.9, "A and B have the same accuracy on test, 90.0 % (85.5–94.0);"),
    ],
)
def test_without_images_in_common_intervals_say_what_they_can(first, second, beginning):
    assert said(first=numbers(first), second=numbers(second), paired="other images").startswith(beginning)


def test_valid_alone_and_nothing_at_all():
    sides = [Outcome({"model_val_accuracy": value}) for value in (0.5, 0.75)]
    assert said(first=sides[0], second=sides[1], paired="never").startswith(
        "B is better by 25.0 points in accuracy on valid, and nobody can tell whether that is chance (50.0 % → 75.0 %)"
    )
    assert said(paired="never").startswith("A and B have no measure in common; ")


@pytest.mark.parametrize(
    ("made", "end"),
    [
        (SAME, "settings, data and code are the same"),
        (
            differences(RUN, RUN | {"git.commit": "d"}),
            "settings, data and code are the same but for the commit",
        ),
        (
            differences(RUN | {"inputs": "1"}, RUN | {"inputs": "2"}),
            "settings, data and code are the same, yet something that is not listed differs",
        ),
        (differences(RUN, RUN | {"train.lr": "0.2"}), "only train.lr differs (0.1 → 0.2)"),
        (
            differences(RUN, RUN | {"train.lr": "0.2", "train.seed": "1"}),
            "data and code are the same, settings differ",
        ),
        (differences(RUN, RUN | {"sha256.vggflow": "6"}), "settings and data are the same, code differs"),
        (
            differences(RUN, RUN | {"train.lr": "0.2", "data.hash": "b.dir", "sha256.vggflow": "6"}),
            "settings, data and code differ",
        ),
        (differences({}, {}), "data is not fully recorded of A and B, code is not fully recorded of A and B"),
        (with_images(SAME, differ=True), "settings and code are the same, data differs"),
    ],
)
def test_what_they_differ_in_ends_the_sentence(made, end):
    assert said(made).endswith(end)


def test_numbers_are_written_with_as_many_digits_as_say_something():
    assert [p_value(p) for p in (0.0, 0.00099, 0.004, 0.0499, 0.36, 1.0)] == [
        *("< 0.001", "< 0.001", "= 0.004", "= 0.050", "= 0.36", "= 1.00"),
    ]
    assert written(Value(0.84, (0.79, 0.885))) == "84.0 % (79.0–88.5)"
    assert written(Value(0.4697, (0.342, 0.6071)), is_share=False) == "0.470 (0.342–0.607)"
    assert (written(Value(0.5)), written(None)) == ("50.0 %", "–")
