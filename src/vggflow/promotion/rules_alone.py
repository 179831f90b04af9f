"""The rules of promotion that look at the challenger alone: enough images, better than nothing, and its floors."""

from collections.abc import Iterator

from vggflow.promotion.decision import Check, Number, Severity
from vggflow.promotion.evidence import Constant, Evidence, Scores
from vggflow.promotion.statistics import POWER, SIGNIFICANCE, mcnemar, smallest_gain
from vggflow.settings import PromotionSettings


def test_images(evidence: Evidence, least: int) -> Check:
    """Enough images count, and what so many of them can tell apart."""
    joint, left_out = evidence.joint, evidence.images_left_out
    # With a champion only classes that both know are compared: the challenger alone may have more images.
    images = joint.images if joint.images else evidence.challenger.images
    differing = _differing(evidence)
    gain = smallest_gain(images, differing, SIGNIFICANCE)
    says = f"{images} test images count, {left_out} were left out as seen in training"
    if images < least:
        says += f"; expected at least {least}: bring in more, or set promotion.min_test_images"
    elif gain is None:
        says += "; so few can show no gain at all"
    else:
        says += f"; the smallest gain they show in {POWER:.0%} of all cases is {gain:.3f}"
    numbers: dict[str, Number] = {"images": images, "images_left_out": left_out, "least": least}
    # No image at all is never enough, whatever is asked for.
    return Check("test_images", images >= max(1, least), says, numbers | {"smallest_gain": gain})


def _differing(evidence: Evidence) -> float:
    """The share of images that one side alone got right: the models, or the challenger and a constant answer."""
    joint, constant = evidence.joint, evidence.constant
    if joint.images:
        return (joint.only_challenger + joint.only_champion) / joint.images
    if constant is None:
        return 0.0
    return (constant.only_challenger + constant.only_constant) / constant.images


def majority(constant: Constant) -> Check:
    """The challenger beats the best constant answer by the test that `better` asks for."""
    # Never divided by 0: there is no `Constant` where no image counts.
    gain = (constant.only_challenger - constant.only_constant) / constant.images
    p = float(mcnemar(constant.only_challenger, constant.only_constant))
    # The test has two sides: a small p alone could mean that the challenger is worse.
    passed = p < SIGNIFICANCE and gain > 0
    found = f"{gain:+.4f} in accuracy on always answering {constant.class_name}, p = {p:.3g} (McNemar)"
    says = found if passed else f"{found}: not shown to be better than that, it takes p < {SIGNIFICANCE:g}"
    numbers: dict[str, Number] = {"gain": gain, "p": p, "class": constant.class_name}
    return Check("majority", passed, says, numbers)


def linear_probe(evidence: Evidence, severity: Severity) -> Check:
    """Training made more of the frozen layers than a linear classifier does at once, on the same images of valid.

    The two accuracies as they are: whether each image was right is not kept, so there is no test of chance.
    """
    probe = evidence.probe
    if probe is None:
        says = (
            "training measured no linear probe: its first phase has no cached features, or it is an old one"
        )
        # Under `refuse` what nobody measured does not hold, or switching the cache off would avoid the rule.
        return Check("linear_probe", severity == "warn", says, {}, severity)
    passed = probe.accuracy >= probe.without_training
    says = f"{probe.accuracy:.4f} on valid, {probe.without_training:.4f} without training (linear probe)"
    if not passed:
        says += ": this training was worth less than none"
    numbers: dict[str, Number] = {
        "accuracy": probe.accuracy,
        "without_training": probe.without_training,
    }
    return Check("linear_probe", passed, says, numbers, severity)


def floors(scores: Scores, settings: PromotionSettings) -> Iterator[Check]:
    """What the settings ask of every model, on the images of all classes that it knows."""
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
    # Of equally low ones the first by name, so that the same numbers give the same decision.
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
