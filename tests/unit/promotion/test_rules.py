import json
from dataclasses import replace

import pytest

from vggflow.promotion.decision import Decision
from vggflow.promotion.evidence import Constant, Evidence, Golden, Joint, Probe, Scores
from vggflow.promotion.rules import decide, lasts, overridable
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
    ("ours", "theirs", "says"),
    [
        ("cats dogs hens", "cats dogs", "new: hens"),
        ("cats dogs", "cats dogs hens", "gone: hens"),
        ("cats dogs geese", "cats dogs hens", "new: geese; gone: hens"),
        ("dogs cats", "cats dogs", "another order: dogs, cats instead of cats, dogs"),
    ],
)
def test_other_classes_are_refused_unless_a_person_accepts_them(ours, theirs, says):
    changed = evidence(
        half(40, 15),
        half(30, 15),
        challenger=replace(SCORES, class_names=tuple(ours.split())),
        champion=replace(SCORES, class_names=tuple(theirs.split())),
    )
    decision = decide(changed, BETTER)
    assert refused_by(decision) == ["same_classes"] and says in decision.summary
    accepted = decide(replace(changed, accept_class_change=True), BETTER)
    assert accepted.promoted and says in accepted.to_text()


@pytest.mark.parametrize("names", [("cats",), ("cats", "hens"), ("hens", "cats"), ("hens", "geese")])
def test_no_person_can_accept_a_change_that_leaves_fewer_than_two_classes_to_compare(names):
    common = {name: half(400, 0) for name in names if name == "cats"}
    changed = Evidence(replace(SCORES, class_names=names), SCORES, per_class=common, accept_class_change=True)
    decision = decide(changed, BETTER)
    assert "same_classes" in refused_by(decision) and "--override" in decision.summary
    assert overridable(decision)


def test_a_common_class_without_test_images_compares_nothing():
    names = ("cats", "dogs", "hens")
    changed = evidence(half(400, 0), Joint(), challenger=replace(SCORES, class_names=names))
    assert refused_by(decide(replace(changed, accept_class_change=True), BETTER)) == ["same_classes"]


# A constant answer is right on all images of its class and no other; 1,000 images, half of them cats.
CONSTANT = Constant("cats", 1000, 0, 0)


@pytest.mark.parametrize(
    ("only_challenger", "only_constant", "promoted"),
    [
        (0, 0, False),  # always answers "cats"
        (0, 500, False),  # always answers something else
        (250, 250, False),  # guesses
        (6, 1, False),  # p = 0.125
        (6, 0, True),  # p = 0.031
        (480, 20, True),
    ],
)
def test_a_model_has_to_beat_always_giving_the_same_answer(only_challenger, only_constant, promoted):
    counted = replace(CONSTANT, only_challenger=only_challenger, only_constant=only_constant)
    for case in (Evidence(SCORES), evidence(half(40, 15), half(30, 15))):
        decision = decide(replace(case, constant=counted), BETTER)
        assert refused_by(decision) == ([] if promoted else ["majority"])
        assert "always answering cats" in decision.to_text()


def test_a_training_that_was_worth_less_than_none_is_told_or_refused_as_the_settings_say():
    worse = Evidence(SCORES, probe=Probe(accuracy=0.81, without_training=0.83))
    told = decide(worse, BETTER)
    assert told.promoted and [check.rule for check in told.warnings] == ["linear_probe"]
    assert "warning: 0.8100 on valid, 0.8300 without training" in told.summary
    assert "but linear_probe" in told.to_text() and "| ! | `linear_probe`" in told.to_markdown()
    strict = PromotionSettings(linear_probe="refuse")
    assert refused_by(decide(worse, strict)) == ["linear_probe"]
    for equal_or_better in (0.83, 0.9):
        good = replace(worse, probe=Probe(equal_or_better, 0.83))
        assert decide(good, strict).promoted and not decide(good, BETTER).warnings


def test_where_no_linear_probe_was_measured_that_is_said_and_a_strict_rule_does_not_hold():
    decision = decide(Evidence(SCORES), BETTER)
    assert decision.promoted and "measured no linear probe" in decision.to_text()
    assert refused_by(decide(Evidence(SCORES), PromotionSettings(linear_probe="refuse"))) == ["linear_probe"]


@pytest.mark.parametrize("classes", [2, 10, 50, 100, 1000])
def test_a_class_that_is_lost_on_ten_images_refuses_however_many_others_gain(classes):
    joints = {f"c{number}": Joint(8, 1, 0, 1) for number in range(1, classes)}
    lost = {"lost": Joint(0, 0, 10, 0)}
    decision = decide(Evidence(SCORES, SCORES, per_class=lost | joints), NOT_WORSE)
    assert "class_loss" in refused_by(decision) and "lost lost 1.0000 on 10 images" in decision.summary
    without = decide(Evidence(SCORES, SCORES, per_class=joints), PromotionSettings(min_test_images=1))
    assert "class_loss" not in refused_by(without)
    off = decide(Evidence(SCORES, SCORES, per_class=lost | joints), PromotionSettings(max_class_loss=1.0))
    assert "class_loss" not in refused_by(off)


def test_a_class_of_one_image_that_is_lost_by_chance_refuses_nothing():
    # 1,000 classes of one image: 50 lost and 90 gained are what two models of 14 % and 10 % errors may give.
    joints = {f"c{n}": Joint(0, 0, 1, 0) if n < 50 else Joint(0, 1, 0, 0) for n in range(140)}
    joints |= {f"c{n}": Joint(1, 0, 0, 0) for n in range(140, 1000)}
    assert decide(Evidence(SCORES, SCORES, per_class=joints), BETTER).promoted


def test_half_of_a_class_may_go_and_not_more():
    def lost(number: int) -> Evidence:
        return Evidence(SCORES, SCORES, per_class={"a": Joint(10 - number, 0, number, 0), "b": half(80, 0)})

    assert "class_loss" not in refused_by(decide(lost(5), BETTER))
    assert "class_loss" in refused_by(decide(lost(6), BETTER))


def test_classes_with_too_few_images_for_the_test_of_drops_are_named():
    many = half(40, 10, 200)
    joints = {"cats": many, "dogs": Joint(7, 0, 0, 0)}
    assert "too few" not in decide(Evidence(SCORES, SCORES, per_class=joints), BETTER).to_text()
    joints = {f"b{number}": many for number in range(99)} | {"rare": Joint(11, 0, 0, 0)}
    found = next(
        c for c in decide(Evidence(SCORES, SCORES, per_class=joints), BETTER).checks if c.rule == "class_drop"
    )
    assert "fewer than 12 images, too few for this test to ever see a loss: rare" in found.says
    assert (found.numbers["images_needed"], found.numbers["too_few"]) == (12, 1)


@pytest.mark.parametrize(("images", "promoted"), [(29, False), (30, True)])
def test_too_few_test_images_are_refused_and_said_to_be(images, promoted):
    case = Evidence(replace(SCORES, images=images))
    decision = decide(case, BETTER)
    assert refused_by(decision) == ([] if promoted else ["test_images"])
    assert ("expected at least 30" in decision.summary) is not promoted
    assert decide(case, PromotionSettings(min_test_images=images)).promoted


def test_the_images_compared_are_counted_not_those_of_the_challenger_alone():
    few = evidence(half(10, 0, 10), half(0, 0, 10))
    assert "test_images" in refused_by(decide(few, BETTER))


def test_every_decision_says_the_smallest_gain_that_it_could_show():
    first = decide(Evidence(replace(SCORES, images=100)), BETTER).checks[0]
    assert first.numbers["smallest_gain"] == pytest.approx(0.078, abs=0.001)
    compared = decide(evidence(half(60, 40), half(60, 40)), BETTER).checks[0]
    # Of 2,000 images 200 differ: a gain of 2 % in accuracy is 40 images, 120 against 80.
    assert compared.numbers["smallest_gain"] == pytest.approx(0.0205, abs=0.001)
    assert f"{compared.numbers['smallest_gain']:.3f}" in compared.says
    nothing = decide(Evidence(replace(SCORES, images=5)), PromotionSettings(min_test_images=1)).checks[0]
    assert nothing.numbers["smallest_gain"] is None and "no gain at all" in nothing.says


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
    known = {"trained_as": "authenticated", "asked_as": "authenticated"}
    case = Evidence(SCORES, trained_by=trainer, asked_by=promoter, **known)
    assert decide(case, BETTER).promoted
    assert decide(case, PromotionSettings(two_person=True)).promoted is allowed


@pytest.mark.parametrize("kind", ["claimed", "local", None])
@pytest.mark.parametrize("for_another", [True, False])
def test_names_that_are_only_claimed_are_no_two_persons(kind, for_another):
    case = Evidence(SCORES, trained_by="ann", asked_by="bob", asked_as=kind, for_another=for_another)
    decision = decide(case, PromotionSettings(two_person=True))
    assert refused_by(decision) == ["two_person"] and not overridable(decision)
    assert "only claimed" in decision.summary and "knows users" in decision.summary
    trained_elsewhere = replace(case, asked_as="authenticated", trained_as=kind or "local")
    assert refused_by(decide(trained_elsewhere, PromotionSettings(two_person=True))) == ["two_person"]


def test_a_trainer_of_whom_older_versions_wrote_only_the_name_is_compared_by_it():
    case = Evidence(SCORES, trained_by="ann", asked_by="bob", asked_as="authenticated")
    rules = PromotionSettings(two_person=True)
    assert decide(case, rules).promoted
    assert refused_by(decide(replace(case, asked_by="ann"), rules)) == ["two_person"]


def test_who_asks_for_another_is_not_judged_as_the_second_person():
    rules = PromotionSettings(two_person=True)
    asks = Evidence(SCORES, trained_by="ann", asked_by="ann", for_another=True, asked_as="authenticated")
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
    full = replace(full, constant=Constant("cats", 1000, 400, 50), probe=Probe(0.9, 0.8))
    decision = decide(full, BETTER)
    assert Decision.from_dict(json.loads(decision.to_json())) == decision


def test_a_decision_that_was_recorded_under_fewer_rules_is_read():
    content = json.loads(decide(evidence(half(40, 15), half(30, 15)), BETTER).to_json())
    for check in content["checks"]:
        del check["severity"]
    for key in ("constant", "probe", "trained_as", "asked_as"):
        del content["evidence"][key]
    for key in ("max_class_loss", "min_test_images", "linear_probe"):
        del content["settings"][key]
    read = Decision.from_dict(content)
    assert read.promoted and read.evidence.constant is None and "McNemar" in read.to_text()


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


def test_only_a_refusal_that_may_be_the_fault_of_the_machine_does_not_last():
    better = evidence(half(40, 15), half(30, 15))
    answers_otherwise = replace(better, golden=Golden(3, 0.5))
    refused = decide(answers_otherwise, BETTER)
    assert (refused_by(refused), lasts(refused)) == (["golden_images"], False)
    assert lasts(decide(better, BETTER))
    assert lasts(decide(evidence(half(10, 10), half(10, 10)), BETTER))


def test_no_person_overrides_golden_images_or_a_missing_second_person():
    golden = Evidence(SCORES, golden=Golden(3, 0.5))
    assert refused_by(decide(golden, BETTER)) == ["golden_images"]
    assert not overridable(decide(golden, BETTER))
    assert not overridable(decide(Evidence(SCORES), PromotionSettings(two_person=True)))
