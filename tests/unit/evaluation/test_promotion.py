import json
from dataclasses import replace

import pytest

from vggflow.evaluation.decision import Decision
from vggflow.evaluation.evidence import Evidence, Golden, Joint, Scores
from vggflow.evaluation.promotion import decide, overridable
from vggflow.settings import PromotionSettings

BETTER, NOT_WORSE = PromotionSettings(), PromotionSettings(rule="not_worse", margin=0.02)
SCORES = Scores(("cats", "dogs"), "digest", 2000, 0.9, {"cats": 0.95, "dogs": 0.85}, 0.03, 60.0)


def evidence(cats: Joint, dogs: Joint, **changes) -> Evidence:
    return replace(Evidence(SCORES, SCORES, per_class={"cats": cats, "dogs": dogs}), **changes)


def half(only_challenger: int, only_champion: int, images: int = 1000) -> Joint:
    neither = 10
    return Joint(images - only_challenger - only_champion - neither, only_challenger, only_champion, neither)


def refused_by(decision) -> list[str]:
    return [check.rule for check in decision.refusals]


def test_a_really_better_challenger_is_promoted():
    decision = decide(evidence(half(40, 15), half(30, 15)), BETTER)
    assert decision.verdict == "promote" and decision.promoted
    assert "+0.0200" in decision.summary and "McNemar" in decision.summary


def test_a_tie_keeps_the_champion_under_better_and_replaces_it_under_not_worse():
    tie = evidence(half(10, 10), half(10, 10))
    assert refused_by(decide(tie, BETTER)) == ["better"]
    assert decide(tie, NOT_WORSE).promoted


def test_models_that_answer_alike_keep_the_champion():
    decision = decide(evidence(half(0, 0), half(0, 0)), BETTER)
    assert refused_by(decision) == ["better"] and "p = 1" in decision.summary


def test_a_really_worse_challenger_is_refused_by_either_rule():
    worse = evidence(half(10, 40), half(10, 40))
    for settings in (BETTER, NOT_WORSE):
        decision = decide(worse, settings)
        assert settings.rule in refused_by(decision)
    assert "the challenger is worse" in decide(worse, BETTER).summary


def test_the_line_between_chance_and_gain_lies_at_five_percent():
    # Exactly: 40 of 60 gives p = 0.0135, 38 of 60 gives p = 0.0519.
    assert decide(evidence(half(20, 10), half(20, 10)), BETTER).promoted
    assert not decide(evidence(half(19, 11), half(19, 11)), BETTER).promoted


def test_a_gain_below_min_gain_is_refused_although_real():
    better = evidence(half(40, 15), half(30, 15))
    assert decide(better, PromotionSettings(min_gain=0.02)).promoted
    decision = decide(better, PromotionSettings(min_gain=0.0201))
    assert refused_by(decision) == ["better"] and "below min_gain" in decision.summary


def test_a_loss_that_the_margin_does_not_rule_out_is_refused():
    small = evidence(half(5, 5, 100), half(5, 5, 100))
    assert refused_by(decide(small, NOT_WORSE)) == ["not_worse"]
    assert decide(small, PromotionSettings(rule="not_worse", margin=0.1)).promoted


def test_a_real_drop_of_a_class_refuses_a_better_challenger():
    decision = decide(evidence(half(150, 10), half(5, 60)), BETTER)
    assert refused_by(decision) == ["class_drop"]
    assert "dogs by 0.0550" in decision.summary and "cats" not in decision.summary


def test_a_drop_within_the_limit_or_by_chance_does_not_refuse():
    within = evidence(half(150, 10), half(5, 60))
    assert decide(within, PromotionSettings(max_class_drop=0.055)).promoted
    by_chance = evidence(half(60, 10, 100), half(2, 7, 100))
    assert decide(by_chance, BETTER).promoted


def test_many_classes_make_the_class_rule_stricter_about_chance():
    # 3 against 13 is p = 0.021: real for one class of two, not as the worst of ten.
    drop, equal = half(3, 13, 200), half(10, 10, 200)
    two = {"a": drop, "b": half(10, 10, 200)}
    ten = {"a": drop} | {f"b{number}": equal for number in range(9)}
    assert "class_drop" in refused_by(decide(Evidence(SCORES, SCORES, per_class=two), BETTER))
    assert "class_drop" not in refused_by(decide(Evidence(SCORES, SCORES, per_class=ten), BETTER))


def test_the_first_champion_needs_only_the_floors():
    assert decide(Evidence(SCORES), BETTER).summary == "promote: the first champion, all floors hold"
    decision = decide(Evidence(SCORES), PromotionSettings(min_accuracy=0.91))
    assert refused_by(decision) == ["min_accuracy"]


@pytest.mark.parametrize(
    ("floor", "at", "beyond"),
    [
        ("min_accuracy", 0.9, 0.901),
        ("min_class_recall", 0.85, 0.86),
        ("max_calibration_error", 0.03, 0.029),
        ("max_model_megabytes", 60.0, 59.9),
    ],
)
def test_a_floor_holds_at_its_value_and_refuses_beyond_it_with_and_without_champion(floor, at, beyond):
    for case in (Evidence(SCORES), evidence(half(40, 15), half(30, 15))):
        assert decide(case, PromotionSettings(**{floor: at})).promoted
        assert refused_by(decide(case, PromotionSettings(**{floor: beyond}))) == [floor]


def test_scores_on_other_images_are_refused():
    other = replace(SCORES, test_digest="another")
    decision = decide(evidence(half(40, 15), half(30, 15), challenger=other), BETTER)
    assert refused_by(decision) == ["same_test"] and "different test data" in decision.summary


def test_no_images_at_all_are_no_evidence():
    nothing = replace(SCORES, images=0, accuracy=0.0, recall={})
    assert refused_by(decide(Evidence(nothing), BETTER)) == ["test_images"]
    decision = decide(Evidence(nothing, nothing), NOT_WORSE)
    assert refused_by(decision) == ["test_images", "same_test", "not_worse"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("cats", "dogs", "hens"), "new: hens"),
        (("cats",), "gone: dogs"),
        (("cats", "hens"), "new: hens; gone: dogs"),
        (("dogs", "cats"), "another order: dogs, cats instead of cats, dogs"),
    ],
)
def test_other_classes_are_refused_unless_a_person_accepts_them(names, says):
    changed = evidence(half(40, 15), half(30, 15), challenger=replace(SCORES, class_names=names))
    decision = decide(changed, BETTER)
    assert refused_by(decision) == ["same_classes"] and says in decision.summary
    accepted = decide(replace(changed, accept_class_change=True), BETTER)
    assert accepted.promoted and says in accepted.to_text()


@pytest.mark.parametrize(("dirty", "allowed"), [(False, True), (True, False), (None, False)])
def test_a_dirty_or_unknown_tree_is_refused_only_when_forbidden(dirty, allowed):
    case = Evidence(SCORES, dirty_tree=dirty)
    assert decide(case, BETTER).promoted
    assert decide(case, PromotionSettings(allow_dirty_tree=False)).promoted is allowed


@pytest.mark.parametrize(
    ("trainer", "promoter", "allowed"),
    [
        ("ann", "bob", True),
        ("ann", "ann", False),
        (None, "bob", False),
        ("ann", None, False),
        (None, None, False),
    ],
)
def test_two_persons_are_two_known_persons(trainer, promoter, allowed):
    case = Evidence(SCORES, trained_by=trainer, asked_by=promoter)
    assert decide(case, BETTER).promoted
    assert decide(case, PromotionSettings(two_person=True)).promoted is allowed


def test_who_asks_for_another_is_not_judged_as_the_second_person():
    rules = PromotionSettings(two_person=True)
    asks = Evidence(SCORES, trained_by="ann", asked_by="ann", for_another=True)
    decision = decide(asks, rules)
    assert decision.promoted and "another person has to promote" in decision.to_text()
    assert refused_by(decide(replace(asks, trained_by=None), rules)) == ["two_person"]


def test_a_floor_of_every_class_does_not_hold_for_a_class_without_test_images():
    case = Evidence(replace(SCORES, recall={"cats": 0.95}))
    assert decide(case, BETTER).promoted
    decision = decide(case, PromotionSettings(min_class_recall=0.5))
    assert refused_by(decision) == ["min_class_recall"] and "dogs" in decision.summary


def test_a_champion_that_cannot_be_compared_with_is_a_refusal_that_a_person_may_override():
    decision = decide(Evidence(SCORES, champion_unfit="its file is damaged"), BETTER)
    assert refused_by(decision) == ["champion_fit"] and "its file is damaged" in decision.summary
    assert overridable(decision)


@pytest.mark.parametrize("case", [Evidence(SCORES), evidence(half(40, 15), half(30, 15))])
def test_a_decision_comes_back_from_its_json_as_it_was(case):
    full = replace(case, golden=Golden(3, 0.0), gain_interval=(0.01, 0.03), dirty_tree=True)
    decision = decide(full, BETTER)
    assert Decision.from_dict(json.loads(decision.to_json())) == decision


def test_every_number_rule_and_verdict_is_in_the_json_and_the_text():
    decision = decide(evidence(half(40, 15), half(30, 15), images_left_out=7), BETTER)
    content = json.loads(decision.to_json())
    assert content["verdict"] == "promote" and content["evidence"]["images_left_out"] == 7
    assert content["evidence"]["per_class"]["cats"]["only_challenger"] == 40
    assert content["settings"]["max_class_drop"] == 0.02
    assert {check["rule"] for check in content["checks"]} >= {
        "better",
        "class_drop",
        "min_accuracy",
        "same_test",
    }
    numbers = next(check["numbers"] for check in content["checks"] if check["rule"] == "better")
    assert numbers["gain"] == 0.02 and 0 < numbers["p"] < 0.05
    for check in content["checks"]:
        assert check["rule"] in decision.to_text() and check["says"] in decision.to_text()
