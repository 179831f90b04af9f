"""Do answers of now look like those on held-out images? Two-sample tests on pooled features and on classes.

After S. Rabanser, S. Günnemann, Z. Lipton, Failing Loudly, NeurIPS 2019 (arXiv:1810.11953): fewer dimensions, a test
for each, and a correction for their number. What it can't find: a new class, at 200 images, was found by none of the
tests tried there or here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from vggflow.prediction.observations import Observations
from vggflow.promotion.statistics import holm

COMPONENTS = 10
# How often an alarm may be false: one look in a hundred at most.
SIGNIFICANCE = 0.01
# With fewer nothing but the coarsest change is found, and no alarm would say little.
FEWEST_IMAGES = 50
CLASS_SHARES = "class shares"
# A test before any correction: its name, distance and p value, and which class it speaks of.
_Raw = tuple[str, float, float, str]


@dataclass(frozen=True)
class Shift:
    """One test.

    Attributes:
        name: `component 1` of the features, the one that varies most; or `class shares`.
        distance: Kolmogorov and Smirnov's, or the difference of the shares of the class that moved most, 0 to 1.
        p_value: That of equal distributions, corrected for all tests of the comparison.
        moved: Whether that is too small for chance.
        about: Which class moved most; empty for a component.
    """

    name: str
    distance: float
    p_value: float
    moved: bool
    about: str = ""


@dataclass(frozen=True)
class Drift:
    """What was found.

    Attributes:
        images: How many answers of now were compared.
        held_out: With how many held-out images.
        classes_alone: Why features were not compared; empty where they were.
        shifts: The tests, those of the features first.
        shares: Class to its share of the held-out answers and of those of now.
        confidence: The means of the held-out answers and of those of now.
    """

    images: int
    held_out: int
    classes_alone: str
    shifts: tuple[Shift, ...]
    shares: dict[str, tuple[float, float]]
    confidence: tuple[float, float]

    @property
    def found(self) -> bool:
        """Whether anything moved."""
        return any(shift.moved for shift in self.shifts)

    @property
    def moved(self) -> list[Shift]:
        """What did, the least likely first."""
        return sorted((shift for shift in self.shifts if shift.moved), key=lambda shift: shift.p_value)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"drift": self.found, "significance": SIGNIFICANCE, **asdict(self)}


@dataclass(frozen=True)
class Projected:
    """Features on the components of the held-out ones: shapes (M, C) and (N, C)."""

    held_out: NDArray[np.float64]
    now: NDArray[np.float64]


def compare(held_out: Observations, now: Observations) -> Drift:
    """Compares answers on held-out images with those of now.

    Two questions share the false alarms: whether images look otherwise, with Holm's correction for its tests, and
    whether the answers do. Ten tests of the one would leave the other, which has a single one, too little to find.

    Raises:
        ValueError: they are of different classes.
    """
    if held_out.class_names != now.class_names:
        raise ValueError("expected answers of one model")
    found = project(held_out, now)
    questions = [[*_of_features(found)], [_of_classes(held_out, now)]]
    asked = [raw for raw in questions if raw]
    shifts = tuple(shift for raw in asked for shift in _shifts(raw, len(asked)))
    before, after = _shares(held_out), _shares(now)
    shares = {name: (float(before[place]), float(after[place])) for place, name in enumerate(now.class_names)}
    confidence = float(held_out.confidence.mean()), float(now.confidence.mean())
    alone = _why_classes_alone(held_out, now)
    return Drift(now.chosen, held_out.chosen, alone, shifts, shares, confidence)


def _shifts(raw: Sequence[_Raw], questions: int) -> Iterator[Shift]:
    """The tests of one question, of so many."""
    corrected = np.minimum(1.0, questions * np.asarray(holm([p for _, _, p, _ in raw])))
    for (name, distance, _, about), p in zip(raw, corrected, strict=True):
        yield Shift(name, distance, float(p), bool(p < SIGNIFICANCE), about)


def project(held_out: Observations, now: Observations) -> Projected | None:
    """Both sides' features on the principal components of the held-out ones.

    Each feature counts alike: a block's are as large as its weights make them. None where one side has none, or others.
    """
    if _why_classes_alone(held_out, now):
        return None
    sides = [np.asarray(side.features, np.float64) for side in (held_out, now)]
    scale = StandardScaler().fit(sides[0])
    before, after = map(scale.transform, sides)
    components = min(COMPONENTS, *before.shape)
    pca = PCA(components, svd_solver="full").fit(before)
    return Projected(pca.transform(before), pca.transform(after))


def _why_classes_alone(held_out: Observations, now: Observations) -> str:
    if held_out.features is None:
        return "the model gives no pooled features"
    if now.features is None:
        return "the answers were kept without features, or with those of several vggflow versions"
    if held_out.features.shape[1] != now.features.shape[1]:
        return "the answers were kept with the features of another vggflow version"
    return ""


def _of_features(found: Projected | None) -> Iterator[_Raw]:
    if found is None:
        return
    for number in range(found.now.shape[1]):
        test = stats.ks_2samp(found.held_out[:, number], found.now[:, number])
        yield f"component {number + 1}", float(test.statistic), float(test.pvalue), ""


def _of_classes(held_out: Observations, now: Observations) -> _Raw:
    """Fisher's exact test of each class against the rest, the least likely one times their number (Bonferroni).

    Of the chosen images alone: of a million every difference is certain, also one that means nothing.
    """
    before, after = _chosen_counts(held_out), _chosen_counts(now)
    tables = [[[a, before.sum() - a], [b, after.sum() - b]] for a, b in zip(before, after, strict=True)]
    p_values = np.array([stats.fisher_exact(table).pvalue for table in tables])
    # Of two classes both tests are the same one.
    tests = 1 if len(tables) == 2 else len(tables)
    moved = int(np.argmin(p_values))
    distance = abs(after[moved] / after.sum() - before[moved] / before.sum())
    return CLASS_SHARES, float(distance), float(min(1.0, p_values[moved] * tests)), now.class_names[moved]


def _chosen_counts(observations: Observations) -> NDArray[np.int64]:
    return np.bincount(observations.classes, minlength=len(observations.class_names))


def _shares(observations: Observations) -> NDArray[np.float64]:
    return np.asarray(observations.counts / observations.counts.sum())
