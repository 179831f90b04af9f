"""Challenger and champion on the same images: which count, and what each got right."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.evaluation import calibration, intervals
from vggflow.prediction import table
from vggflow.promotion.evidence import Constant, Evidence, Joint, Scores
from vggflow.promotion.seen import Near, Seen, find_seen

# Ten times those of the measures, of which there are many: about a second for 2,000 images.
REPLICATES = 10_000


@dataclass(frozen=True)
class Side:
    """One model's answers.

    Attributes:
        predictions: Its predictions table, scored now.
        class_names: Its classes in the order of its probabilities.
        megabytes: The size of its file, in units of 1,000,000 bytes.
        trained_on: The manifest that it was trained on; None leaves out nothing on its account.
        seconds: What scoring took; reported, never a rule.
        temperature: What the model divides its logits by, for calibration before and after.
    """

    predictions: pd.DataFrame
    class_names: tuple[str, ...]
    megabytes: float
    trained_on: pd.DataFrame | None = None
    seconds: float | None = None
    temperature: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """Both sides, cut down to the test images that count.

    Attributes:
        challenger: The model that wants to be used.
        champion: The model in use, on the same images in the same order; None before the first promotion.
        seen: The images left out, as a model has seen them in training.
        common: The classes that both models know, in the challenger's order.
        manifest_digest: The manifest that the images were taken from.
    """

    challenger: Side
    champion: Side | None
    seen: Seen
    common: tuple[str, ...]
    manifest_digest: str

    @property
    def paired(self) -> bool:
        """Whether there is a champion and both tables are about the same images in the same order."""
        return self.champion is not None and digest(self.challenger) == digest(self.champion)

    @property
    def both_know(self) -> NDArray[np.bool_]:
        """Which images are of a class that both models know, shape (N,)."""
        return self.challenger.predictions["truth"].isin(self.common).to_numpy()


def compare(
    challenger: Side,
    champion: Side | None,
    manifest_digest: str,
    images: pd.DataFrame | None = None,
    near: Near | None = None,
) -> Comparison:
    """Pairs two predictions tables and leaves out what either model has seen.

    Args:
        challenger: The model that wants to be used.
        champion: The model in use, if there is one.
        manifest_digest: The manifest that the images were taken from.
        images: The rows of the manifest that were scored; without them nothing is left out.
        near: How near copies of training images are found; only equal bytes are looked for without it.
    """
    sides = [challenger] if champion is None else [challenger, champion]
    manifests = [side.trained_on for side in sides if side.trained_on is not None]
    seen = Seen() if images is None else find_seen(images, manifests, near)
    # What one model has seen is taken from both, or the two tables would be about different images.
    kept = [_without(side, seen.paths) for side in sides]
    common = tuple(n for n in challenger.class_names if champion is None or n in champion.class_names)
    return Comparison(kept[0], kept[1] if champion else None, seen, common, manifest_digest)


def evidence(comparison: Comparison) -> Evidence:
    """The numbers that `promotion.decide` looks at; tables about different images have no joint counts."""
    challenger, champion = comparison.challenger, comparison.champion
    alone = Evidence(
        _scores(challenger),
        None if champion is None else _scores(champion),
        comparison.manifest_digest,
        images_left_out=len(comparison.seen.paths),
        constant=constant(challenger),
    )
    # Without joint counts `same_test` refuses, so that tables of different images end in a decision too.
    if champion is None or not comparison.paired:
        return alone
    known = comparison.both_know
    # Not images of a class that one model alone knows: it would be right there, and the other never.
    first, second = right(challenger.predictions)[known], right(champion.predictions)[known]
    truth = challenger.predictions["truth"].to_numpy()[known]
    per_class = {name: joint(first[truth == name], second[truth == name]) for name in comparison.common}
    return replace(alone, per_class=per_class, gain_interval=intervals.gain(first, second, REPLICATES))


def gather(
    challenger: Side,
    champion: Side | None,
    manifest_digest: str,
    images: pd.DataFrame | None = None,
    near: Near | None = None,
) -> Evidence:
    """`compare` and `evidence` in one."""
    return evidence(compare(challenger, champion, manifest_digest, images, near))


def digest(side: Side) -> str:
    """The SHA-256 over which images were scored, in which order, and their true classes."""
    # pandas ends lines as the system does, and the digest stands in records that other machines read.
    content = side.predictions[["path", "sha256", "truth"]].to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode()).hexdigest()


def known(side: Side) -> pd.DataFrame:
    """The predictions for images of classes that the model knows."""
    return side.predictions[side.predictions["truth"].isin(side.class_names)]


def right(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether the most probable class is the true one, shape (N,)."""
    return np.asarray(table.labels(predictions) == predictions["truth"].to_numpy())


def joint(challenger: NDArray[np.bool_], champion: NDArray[np.bool_]) -> Joint:
    """The 2 × 2 counts from what each model got right, both of shape (N,)."""
    return Joint(
        int((challenger & champion).sum()),
        int((challenger & ~champion).sum()),
        int((~challenger & champion).sum()),
        int((~challenger & ~champion).sum()),
    )


def constant(side: Side) -> Constant | None:
    """A model beside the best constant answer, on the images of classes that it knows; None without images.

    Of all constant answers the best is the one with most test images: what does not beat it may be a constant
    itself, whatever training saw most of. Of equal classes the first one by name.
    """
    own = known(side)
    if own.empty:
        return None
    counts = own["truth"].value_counts()
    name = min(counts.index[counts == counts.max()])
    correct, same = right(own), (own["truth"] == name).to_numpy()
    return Constant(str(name), len(own), int((correct & ~same).sum()), int((~correct & same).sum()))


def _scores(side: Side) -> Scores:
    """What the floors look at: the images of classes that this model knows."""
    own = known(side)
    if own.empty:
        # The worst values, so that no limit that is set holds where nothing was counted.
        return Scores(side.class_names, digest(side), 0, 0.0, {}, 1.0, side.megabytes)
    correct = right(own)
    confidence = table.probabilities(own, side.class_names).max(axis=1)
    recall = pd.Series(correct).groupby(own["truth"].to_numpy()).mean()
    return Scores(
        side.class_names,
        digest(side),
        len(own),
        float(correct.mean()),
        {str(name): float(value) for name, value in recall.items()},
        calibration.expected_error(confidence, correct),
        side.megabytes,
    )


def _without(side: Side, paths: Sequence[str]) -> Side:
    kept = side.predictions[~side.predictions["path"].isin(list(paths))].reset_index(drop=True)
    return replace(side, predictions=kept)
