"""Should the challenger become champion? Numbers in, decision and reasons out, and nothing else."""

from collections.abc import Iterator

import numpy as np

from vggflow.evaluation.decision import Check, Decision, Number
from vggflow.evaluation.evidence import Evidence, Golden, Joint, Scores
from vggflow.evaluation.statistics import holm, mcnemar, not_worse
from vggflow.settings import PromotionSettings

SIGNIFICANCE = 0.05
# Another machine's matrix multiplication differs in the last digits of float32; another model differs in the first.
GOLDEN_TOLERANCE = 1e-3
# Whoever overrides the gate answers for a worse model, not for another person's consent or for another file.
NEVER_OVERRIDDEN = frozenset({"two_person", "golden_images"})


def overridable(decision: Decision) -> bool:
    """Whether a person may promote against this decision, by name and with a reason."""
    return not any(check.rule in NEVER_OVERRIDDEN for check in decision.refusals)


def decide(evidence: Evidence, settings: PromotionSettings) -> Decision:
    """Asks every rule; the challenger is promoted if all of them pass.

    Floors and conditions hold for everyone. With a champion, both models must have answered the same test
    images; the rule on classes and the overall rule (`better` or `not_worse`) then look at the joint counts.
    """
    checks = [*_conditions(evidence, settings), *_floors(evidence.challenger, settings)]
    if evidence.champion is not None:
        checks += _comparison(evidence, evidence.champion, settings)
    return Decision(tuple(checks), evidence, settings.model_dump())


def _conditions(evidence: Evidence, settings: PromotionSettings) -> Iterator[Check]:
    images = evidence.challenger.images
    left_out = evidence.images_left_out
    yield Check(
        "test_images",
        images > 0,
        f"{images} test images count, {left_out} were left out as seen in training",
        {"images": images, "images_left_out": left_out},
    )
    if evidence.golden is not None:
        yield _golden_images(evidence.golden)
    if not settings.allow_dirty_tree:
        clean = evidence.dirty_tree is False
        says = f"the challenger comes {'from' if clean else 'not from'} committed code and settings"
        if evidence.dirty_tree is None:
            says = "nobody knows whether the challenger comes from committed code and settings"
        yield Check("clean_tree", clean, says, {"dirty_tree": evidence.dirty_tree})
    if evidence.champion_unfit is not None:
        says = f"the champion can't be compared with: {evidence.champion_unfit}"
        yield Check("champion_fit", False, says)
    if settings.two_person:
        yield _two_person(evidence)


def _golden_images(golden: Golden) -> Check:
    same = golden.images > 0 and golden.difference <= GOLDEN_TOLERANCE
    says = f"{golden.images} images answered as in the evaluation, largest difference {golden.difference:.1e}"
    if not golden.images:
        says = "none of the images of its evaluation is here to ask it again; evaluate it on this data"
    elif not same:
        says = f"the model answers otherwise than in its evaluation: probabilities differ by {golden.difference:.3g}"
    numbers: dict[str, Number] = {"images": golden.images, "difference": golden.difference}
    return Check("golden_images", same, says, numbers)


def _two_person(evidence: Evidence) -> Check:
    """Who acts must not be who trained; where somebody else will act, only that has to be possible."""
    trainer, promoter = evidence.trained_by, evidence.asked_by
    numbers: dict[str, Number] = {"trained_by": trainer, "asked_by": promoter}
    if evidence.for_another and trainer is not None:
        says = f"trained by {trainer}: another person has to promote"
        return Check("two_person", True, says, numbers)
    known = trainer is not None and promoter is not None
    says = f"trained by {trainer or 'nobody known'}, promoted by {promoter or 'nobody known'}"
    return Check("two_person", known and trainer != promoter, f"{says}; these must be two persons", numbers)


def _floors(scores: Scores, settings: PromotionSettings) -> Iterator[Check]:
    yield _floor("min_accuracy", "accuracy", scores.accuracy, settings.min_accuracy)
    yield _class_recall(scores, settings.min_class_recall)
    error, size = scores.calibration_error, scores.megabytes
    yield _ceiling("max_calibration_error", "calibration error", error, settings.max_calibration_error)
    yield _ceiling("max_model_megabytes", "model file in MB:", size, settings.max_model_megabytes)


def _class_recall(scores: Scores, least: float) -> Check:
    """The floor of every class; of a class without test images nobody knows that it holds."""
    unknown = [name for name in scores.class_names if name not in scores.recall]
    if unknown and least:
        says = (
            f"no test image counts of {', '.join(unknown)}, so nobody knows whether its recall is {least:g}"
        )
        return Check("min_class_recall", False, says, {"value": None, "least": least})
    if not scores.recall:
        return Check("min_class_recall", True, "no floor is set", {"value": None, "least": least})
    recall, worst = min((recall, name) for name, recall in scores.recall.items())
    return _floor("min_class_recall", f"recall of {worst}", recall, least)


def _floor(rule: str, what: str, value: float, least: float) -> Check:
    passed = value >= least
    compared = f"{'at least' if passed else 'below'} {least:g}" if least else "no floor is set"
    return Check(rule, passed, f"{what} {value:.4g}, {compared}", {"value": value, "least": least})


def _ceiling(rule: str, what: str, value: float, most: float | None) -> Check:
    passed = most is None or value <= most
    compared = "no limit is set" if most is None else f"{'at most' if passed else 'above'} {most:g}"
    return Check(rule, passed, f"{what} {value:.4g}, {compared}", {"value": value, "most": most})


def _comparison(evidence: Evidence, champion: Scores, settings: PromotionSettings) -> Iterator[Check]:
    yield _same_test(evidence.challenger, champion, evidence.joint)
    yield _same_classes(evidence.challenger, champion, evidence.accept_class_change)
    yield _class_drop(evidence, settings.max_class_drop)
    if settings.rule == "better":
        yield _better(evidence.joint, settings.min_gain)
    else:
        yield _not_worse(evidence.joint, settings.margin)


def _same_test(challenger: Scores, champion: Scores, joint: Joint) -> Check:
    same = challenger.test_digest == champion.test_digest
    passed = same and joint.images > 0
    says = f"both models answered the same {joint.images} images"
    if not same:
        says = "the two models were scored on different test data; score both on the same manifest"
    elif not joint.images:
        says = "no test image is left to compare the two models on"
    numbers: dict[str, Number] = {
        "challenger": challenger.test_digest,
        "champion": champion.test_digest,
        "images": joint.images,
    }
    return Check("same_test", passed, says, numbers)


def _same_classes(challenger: Scores, champion: Scores, accepted: bool) -> Check:
    ours, theirs = challenger.class_names, champion.class_names
    added = ", ".join(name for name in ours if name not in theirs)
    removed = ", ".join(name for name in theirs if name not in ours)
    changes = [f"new: {added}"] * bool(added) + [f"gone: {removed}"] * bool(removed)
    if not changes and ours != theirs:
        changes = [f"another order: {', '.join(ours)} instead of {', '.join(theirs)}"]
    numbers: dict[str, Number] = {"added": added, "removed": removed, "accepted": accepted}
    if not changes:
        return Check("same_classes", True, f"both models know {', '.join(ours)}", numbers)
    change = f"the classes changed ({'; '.join(changes)})"
    if accepted:
        says = f"{change}, which was accepted; the common ones are compared"
        return Check("same_classes", True, says, numbers)
    return Check("same_classes", False, f"{change}; accept it with --accept-class-change", numbers)


def _class_drop(evidence: Evidence, most: float) -> Check:
    counted = {name: joint for name, joint in evidence.per_class.items() if joint.images}
    gained = np.array([joint.only_challenger for joint in counted.values()])
    lost = np.array([joint.only_champion for joint in counted.values()])
    corrected = dict(zip(counted, holm(mcnemar(gained, lost)).tolist(), strict=True))
    real = [n for n, joint in counted.items() if -joint.gain > most and corrected[n] < SIGNIFICANCE]
    numbers: dict[str, Number] = {"max_class_drop": most}
    for name, joint in counted.items():
        numbers |= {f"gain:{name}": joint.gain, f"p:{name}": corrected[name]}
    if not real:
        return Check("class_drop", True, f"no class lost more than {most:g} of its recall for real", numbers)
    drops = ", ".join(f"{n} by {-counted[n].gain:.4f} (p = {corrected[n]:.3g})" for n in real)
    return Check("class_drop", False, f"classes lost more than {most:g} of their recall: {drops}", numbers)


def _better(joint: Joint, min_gain: float) -> Check:
    p = float(mcnemar(joint.only_challenger, joint.only_champion))
    real = p < SIGNIFICANCE and joint.gain > 0
    passed = real and joint.gain >= min_gain
    says = f"gain {joint.gain:+.4f} in accuracy, p = {p:.3g} (McNemar)"
    if p < SIGNIFICANCE and joint.gain < 0:
        says += ": the challenger is worse"
    elif not real:
        says += f": not shown to be better, that takes p < {SIGNIFICANCE:g}"
    elif not passed:
        says += f": real, but below min_gain {min_gain:g}"
    return Check("better", passed, says, {"gain": joint.gain, "min_gain": min_gain, "p": p})


def _not_worse(joint: Joint, margin: float) -> Check:
    # One side at 2.5 % is what a 95 % interval above -margin says.
    least = SIGNIFICANCE / 2
    p = not_worse(joint.only_challenger, joint.only_champion, joint.images, margin) if joint.images else 1.0
    passed = p < least
    verb = "ruled out" if passed else f"not ruled out, that takes p < {least:g}"
    says = f"gain {joint.gain:+.4f} in accuracy; a loss of {margin:g} is {verb} (p = {p:.3g}, Tango)"
    return Check("not_worse", passed, says, {"gain": joint.gain, "margin": margin, "p": p})
