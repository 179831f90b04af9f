"""The rules of promotion that compare challenger and champion on the images that both answered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vggflow.promotion.decision import Check, Number
from vggflow.promotion.evidence import Evidence, Joint, Scores
from vggflow.promotion.statistics import (
    SIGNIFICANCE,
    holm,
    images_for_a_drop,
    mcnemar,
    not_worse,
    unlike_the_others,
)
from vggflow.settings import PromotionSettings

# With fewer classes that both models know there is nothing to tell apart.
LEAST_COMMON = 2
# Of a thousand classes a decision, which people read in a terminal, names so many.
NAMED = 10


def compared(evidence: Evidence, champion: Scores, settings: PromotionSettings) -> Iterator[Check]:
    """Every rule that looks at both models; the last one is that of the settings."""
    yield _same_test(evidence.challenger, champion, evidence.joint)
    yield _same_classes(evidence, champion)
    # A class without images shows nothing, and would only make Holm's correction harder on the others.
    counted = {name: joint for name, joint in evidence.per_class.items() if joint.images}
    yield _class_drop(counted, settings.max_class_drop)
    yield _class_loss(counted, settings.max_class_loss)
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


def _same_classes(evidence: Evidence, champion: Scores) -> Check:
    ours, theirs = evidence.challenger.class_names, champion.class_names
    added = ", ".join(name for name in ours if name not in theirs)
    removed = ", ".join(name for name in theirs if name not in ours)
    changes = [f"new: {added}"] * bool(added) + [f"gone: {removed}"] * bool(removed)
    if not changes and ours != theirs:
        # Who reads probabilities by their place, as a submission of two classes, would get another class.
        changes = [f"another order: {', '.join(ours)} instead of {', '.join(theirs)}"]
    accepted = evidence.accept_class_change
    numbers: dict[str, Number] = {"added": added, "removed": removed, "accepted": accepted}
    if not changes:
        return Check("same_classes", True, f"both models know {listed(ours)}", numbers)
    change = f"the classes changed ({'; '.join(changes)})"
    # Counts, not only names: a common class without test images compares nothing.
    common = [name for name in ours if name in theirs and evidence.per_class.get(name, Joint()).images]
    # Before it is asked whether the change was accepted: nobody can accept a comparison of nothing.
    if len(common) < LEAST_COMMON:
        only = f"only {common[0]}" if common else "none"
        says = f"{change}: {only} of those with test images is known to both models, which compares nothing"
        return Check("same_classes", False, f"{says}; --override replaces the champion", numbers)
    if accepted:
        says = f"{change}, which was accepted; the common ones are compared"
        return Check("same_classes", True, says, numbers)
    return Check("same_classes", False, f"{change}; accept it with --accept-class-change", numbers)


def _class_drop(counted: Mapping[str, Joint], most: float) -> Check:
    gained, lost, images = counts(counted.values())
    p = holm(mcnemar(gained, lost))
    corrected = dict(zip(counted, p.tolist(), strict=True))
    real = [name for name, drops in zip(counted, dropped(gained, lost, images, most), strict=True) if drops]
    needed = images_for_a_drop(len(counted), SIGNIFICANCE)
    blind = [name for name, joint in counted.items() if joint.images < needed]
    numbers: dict[str, Number] = {"max_class_drop": most, "images_needed": needed, "too_few": len(blind)}
    for name, joint in counted.items():
        numbers |= {f"gain:{name}": joint.gain, f"p:{name}": corrected[name]}
    says = f"no class lost more than {most:g} of its recall for real"
    if real:
        drops = ", ".join(f"{n} by {-counted[n].gain:.4f} (p = {corrected[n]:.3g})" for n in real)
        says = f"classes lost more than {most:g} of their recall: {drops}"
    if blind:
        says += f"; fewer than {needed} images, too few for this test to ever see a loss: {listed(blind)}"
    return Check("class_drop", not real, says, numbers)


def _class_loss(counted: Mapping[str, Joint], most: float) -> Check:
    gained, lost, images = counts(counted.values())
    real = [name for name, gone in zip(counted, collapsed(gained, lost, images, most), strict=True) if gone]
    says = f"no class lost more than {most:g} of its recall while the others kept theirs"
    if real:
        losses = [f"{name} lost {-counted[name].gain:.4f} on {counted[name].images} images" for name in real]
        says = f"more than {most:g} of the recall of a class is gone: {listed(losses)}"
    return Check("class_loss", not real, says, {"max_class_loss": most, "classes": len(real)})


def counts(joints: Iterable[Joint]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Images that only the challenger and only the champion got right, and all of them, a class each."""
    rows = [(joint.only_challenger, joint.only_champion, joint.images) for joint in joints]
    # `reshape` for the case without classes, of which NumPy makes an array without columns.
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def dropped(
    gained: NDArray[np.int64], lost: NDArray[np.int64], images: NDArray[np.int64], most: float
) -> NDArray[np.bool_]:
    """Which classes, along the last axis, lost more than `most` of their recall, by McNemar's test and Holm's."""
    return np.asarray((lost - gained > most * images) & (holm(mcnemar(gained, lost)) < SIGNIFICANCE))


def collapsed(
    gained: NDArray[np.int64], lost: NDArray[np.int64], images: NDArray[np.int64], most: float
) -> NDArray[np.bool_]:
    """Which classes lost more than `most` of their recall, and more than chance gives where all others stand."""
    # The tail costs a row as long as the largest class for each class that is asked about, so only for these.
    less = lost - gained > most * images
    return np.asarray(less & (holm(unlike_the_others(lost, images, less)) < SIGNIFICANCE))


def shown_better(gained: NDArray[np.int64] | int, lost: NDArray[np.int64] | int) -> NDArray[np.bool_]:
    """Where the challenger is really better, by McNemar's test, for each pair of counts."""
    # McNemar's p does not say which side is better, the counts do.
    return np.asarray((mcnemar(gained, lost) < SIGNIFICANCE) & (np.asarray(gained) > np.asarray(lost)))


def _better(joint: Joint, min_gain: float) -> Check:
    p = float(mcnemar(joint.only_challenger, joint.only_champion))
    real = bool(shown_better(joint.only_challenger, joint.only_champion))
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
    # The score divides by the images; without any, nothing is ruled out.
    p = not_worse(joint.only_challenger, joint.only_champion, joint.images, margin) if joint.images else 1.0
    passed = p < least
    verb = "ruled out" if passed else f"not ruled out, that takes p < {least:g}"
    says = f"gain {joint.gain:+.4f} in accuracy; a loss of {margin:g} is {verb} (p = {p:.3g}, Tango)"
    return Check("not_worse", passed, says, {"gain": joint.gain, "margin": margin, "p": p})


def listed(names: Sequence[str]) -> str:
    """Names in one line; of many the first ten and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
