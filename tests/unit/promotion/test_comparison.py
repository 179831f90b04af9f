from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vggflow.promotion.comparison import Side, compare, constant, evidence, gather, right
from vggflow.promotion.evidence import Constant, Joint
from vggflow.promotion.rules import decide
from vggflow.settings import PromotionSettings

NAMES = ("cats", "dogs")


def answers(truth: list[str], given: list[str], names=NAMES) -> pd.DataFrame:
    """A predictions table with these answers, each given with 0.8."""
    table = pd.DataFrame(
        {"path": [f"test/{number}.jpg" for number in range(len(truth))]}
        | {"sha256": [f"{number:064}" for number in range(len(truth))], "truth": truth}
    )
    for name in names:
        table[f"p:{name}"] = [0.8 if answer == name else 0.2 / (len(names) - 1) for answer in given]
    return table


TRUTH = ["cats"] * 4 + ["dogs"] * 3
FIRST = ["cats", "cats", "dogs", "dogs", "dogs", "dogs", "cats"]
SECOND = ["cats", "dogs", "cats", "dogs", "dogs", "cats", "cats"]


def images(paths: list[str], sha256: list[str], split: str = "test") -> pd.DataFrame:
    table = pd.DataFrame({"path": paths, "sha256": sha256, "class_name": "cats", "split": split})
    return table.assign(error=None, excluded=None)


def test_joint_counts_per_class_and_in_total():
    found = gather(Side(answers(TRUTH, FIRST), NAMES, 60.0), Side(answers(TRUTH, SECOND), NAMES, 61.0), "d")
    assert found.per_class == {"cats": Joint(1, 1, 1, 1), "dogs": Joint(1, 1, 0, 1)}
    assert found.joint == Joint(2, 2, 1, 2) and found.joint.gain == pytest.approx(1 / 7)
    low, high = found.gain_interval
    assert low < 1 / 7 < high
    assert found.challenger.accuracy == pytest.approx(4 / 7) and found.champion.accuracy == pytest.approx(
        3 / 7
    )
    assert found.challenger.recall == {"cats": 0.5, "dogs": pytest.approx(2 / 3)}
    assert found.challenger.calibration_error == pytest.approx(0.8 - 4 / 7)
    assert (found.challenger.megabytes, found.champion.megabytes) == (60.0, 61.0)
    assert found.manifest_digest == "d"


def test_without_a_champion_there_are_scores_and_no_counts():
    found = gather(Side(answers(TRUTH, FIRST), NAMES, 60.0), None, "digest")
    assert found.champion is None and found.per_class == {} and found.gain_interval is None
    assert found.challenger.images == 7


@pytest.mark.parametrize("change", ["sha256", "truth", "order", "fewer"])
def test_tables_about_other_images_end_in_a_recorded_refusal(change):
    challenger, champion = answers(TRUTH, FIRST), answers(TRUTH, SECOND)
    if change == "order":
        champion = champion.iloc[::-1].reset_index(drop=True)
    elif change == "fewer":
        champion = champion.iloc[:-1]
    else:
        champion.loc[0, change] = "dogs"
    found = gather(Side(challenger, NAMES, 1.0), Side(champion, NAMES, 1.0), "digest")
    decision = decide(found, PromotionSettings())
    assert "same_test" in [check.rule for check in decision.refusals]


def test_images_that_either_model_was_trained_on_are_left_out_of_everything():
    challenger, champion = answers(TRUTH, FIRST), answers(TRUTH, SECOND)
    scored = images(list(challenger["path"]), list(challenger["sha256"]))
    seen_by_challenger = images(["train/a.jpg"], [challenger["sha256"][0]], "train")
    seen_by_champion = images(["valid/b.jpg"], [challenger["sha256"][1]], "valid")
    result = compare(
        Side(challenger, NAMES, 1.0, seen_by_challenger),
        Side(champion, NAMES, 1.0, seen_by_champion),
        "d",
        scored,
    )
    assert result.seen.exactly == ("test/0.jpg", "test/1.jpg")
    assert list(result.challenger.predictions["path"]) == [f"test/{n}.jpg" for n in range(2, 7)]
    found = evidence(result)
    assert found.images_left_out == 2 and found.challenger.images == 5
    assert found.joint == Joint(1, 1, 1, 2)


def test_a_class_that_only_one_model_knows_is_not_compared():
    truth = [*TRUTH, "hens", "hens"]
    challenger = answers(truth, [*FIRST, "hens", "hens"], ("cats", "dogs", "hens"))
    champion = answers(truth, [*SECOND, "cats", "dogs"])
    result = compare(
        Side(challenger, ("cats", "dogs", "hens"), 1.0), Side(champion, ("cats", "dogs"), 1.0), "digest"
    )
    assert result.common == ("cats", "dogs") and result.both_know.sum() == 7
    found = evidence(result)
    assert found.joint == Joint(2, 2, 1, 2) and set(found.per_class) == {"cats", "dogs"}
    assert found.challenger.images == 9 and found.champion.images == 7
    common = gather(
        Side(answers(TRUTH, FIRST), NAMES, 1.0), Side(answers(TRUTH, SECOND), NAMES, 1.0), "digest"
    )
    assert found.gain_interval == common.gain_interval


def test_a_class_that_only_the_challenger_answers_with_counts_as_wrong_on_common_images():
    challenger = answers(["cats", "cats"], ["hens", "cats"], ("cats", "dogs", "hens"))
    champion = answers(["cats", "cats"], ["cats", "cats"])
    found = gather(Side(challenger, ("cats", "dogs", "hens"), 1.0), Side(champion, NAMES, 1.0), "digest")
    assert found.joint == Joint(1, 0, 1, 0)


def test_everything_left_out_is_no_evidence():
    challenger = answers(TRUTH, FIRST)
    scored = images(list(challenger["path"]), list(challenger["sha256"]))
    trained = images(list(challenger["path"]), list(challenger["sha256"]), "train")
    found = gather(Side(challenger, NAMES, 1.0, trained), None, "digest", scored)
    assert found.challenger.images == 0 and found.images_left_out == 7
    assert not decide(found, PromotionSettings()).promoted


def test_right_takes_the_first_of_equal_classes():
    table = answers(["cats", "dogs"], ["cats", "cats"])
    table[["p:cats", "p:dogs"]] = 0.5
    assert list(right(table)) == [True, False]
    assert right(table).dtype == np.bool_


def test_a_model_is_counted_beside_the_answer_that_fits_most_of_its_images():
    # Of seven images four are cats: always answering cats is right on those.
    assert constant(Side(answers(TRUTH, FIRST), NAMES, 1.0)) == Constant("cats", 7, 2, 2)
    always = constant(Side(answers(TRUTH, ["dogs"] * 7), NAMES, 1.0))
    assert always == Constant("cats", 7, 3, 4)
    assert constant(Side(answers(["hens"], ["cats"]), NAMES, 1.0)) is None


@pytest.mark.parametrize("answer", NAMES)
def test_no_constant_answer_is_ever_a_first_champion(answer):
    for cats in (1, 50, 99):
        truth = ["cats"] * cats + ["dogs"] * (100 - cats)
        found = gather(Side(answers(truth, [answer] * 100), NAMES, 1.0), None, "digest")
        assert [check.rule for check in decide(found, PromotionSettings()).refusals] == ["majority"]


def test_a_rename_in_a_two_class_model_does_not_let_a_constant_in():
    # The challenger knows `dog` for `dogs` and answers `cats` to everything, as it does on all common images.
    truth = ["cats"] * 60 + ["dog"] * 60
    challenger = Side(answers(truth, ["cats"] * 120, ("cats", "dog")), ("cats", "dog"), 1.0)
    champion = Side(answers(truth, ["cats"] * 40 + ["dogs"] * 80), NAMES, 1.0)
    found = replace(gather(challenger, champion, "digest"), accept_class_change=True)
    refused = [check.rule for check in decide(found, PromotionSettings()).refusals]
    assert refused == ["majority", "same_classes"]


def test_the_floor_of_recall_holds_for_classes_that_only_the_challenger_knows():
    truth = ["cats"] * 40 + ["dogs"] * 40 + ["hens"] * 40
    names = ("cats", "dogs", "hens")
    challenger = Side(answers(truth, ["cats"] * 40 + ["dogs"] * 80, names), names, 1.0)
    champion = Side(answers(truth, ["dogs"] * 40 + ["dogs"] * 80), NAMES, 1.0)
    found = replace(gather(challenger, champion, "digest"), accept_class_change=True)
    assert decide(found, PromotionSettings()).promoted
    refused = decide(found, PromotionSettings(min_class_recall=0.1)).refusals
    assert [check.rule for check in refused] == ["min_class_recall"] and "hens" in refused[0].says
