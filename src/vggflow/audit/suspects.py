"""Suspected label errors, ranked; classes taken for each other; images unlike all others; copies that teach nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.audit.out_of_fold import MOST_TO_LEARN_FROM, OutOfFold, out_of_fold
from vggflow.audit.outliers import distances, unlike

COLUMNS = ("path", "split", "class_name", "sha256")
SUSPECT_COLUMNS = (*COLUMNS, "suggested", "probability", "suspicion", "sure")
# How many of the farthest images are told of, whether they are unlike all others or not.
OUTLIERS = 100


@dataclass(frozen=True)
class Pair:
    """Images of one class that look like another: how many, and how many of those are surely suspect."""

    labelled: str
    suggested: str
    images: int
    sure: int


@dataclass(frozen=True)
class Audit:
    """What features say of labels.

    Attributes:
        images: How many were looked at.
        suspects: Images whose likeliest class is not their label, the largest suspicion first: path, split,
            class_name, sha256, suggested, probability (of the suggestion), suspicion (1 minus the label's
            probability), sure (whether it is as likely as images that are labelled so usually are).
        outliers: The images farthest from those most like them, the farthest first: path, split, class_name, sha256,
            distance, unlike (whether it is far beyond what is usual).
        pairs: Classes that are taken for each other, the most images first.
        copies: Images of each class that are copies of another one in it, of its bytes or near ones, beyond the first.
    """

    images: int
    suspects: pd.DataFrame
    outliers: pd.DataFrame
    pairs: tuple[Pair, ...]
    copies: dict[str, int]

    @property
    def sure(self) -> int:
        """Suspects that are as likely another class as images labelled so usually are."""
        return int(self.suspects["sure"].sum())

    @property
    def unlike(self) -> int:
        """Images that are unlike all others."""
        return int(self.outliers["unlike"].sum())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "images": self.images,
            "sure": self.sure,
            "suspects": self.suspects.to_dict("records"),
            "pairs": [vars(pair) for pair in self.pairs],
            "outliers": self.outliers.to_dict("records"),
            "copies": self.copies,
        }


def audit(
    images: pd.DataFrame,
    features: NDArray[np.float32],
    class_names: Sequence[str],
    most: int = MOST_TO_LEARN_FROM,
) -> Audit:
    """Doubts the labels of images.

    Args:
        images: Rows of the manifest, in the order of `features`.
        features: What the start weights see in each, shape (n, channels).
        class_names: All classes.
        most: How many images a classifier is taught by, and an image is compared with; fewer take less time.

    Raises:
        ValueError: there are images of one class only.
    """
    index = {name: number for number, name in enumerate(class_names)}
    labels: NDArray[np.int64] = np.array([index[name] for name in images["class_name"]], np.int64)
    groups = _groups(images)
    found = out_of_fold(features, labels, groups, most=most)
    suspects = _suspects(images, labels, found, class_names)
    distance = distances(features, most=most)
    far = images.loc[:, list(COLUMNS)].assign(distance=distance, unlike=unlike(distance))
    outliers = _ranked(far, "distance")[:OUTLIERS]
    return Audit(len(images), suspects, outliers, _pairs(suspects), _copies(images, groups))


def again(known: pd.DataFrame) -> Audit:
    """What an audit that was kept says of images; see `record.known`."""
    suspects = _ranked(known[known["suggested"].notna()], "suspicion")[list(SUSPECT_COLUMNS)]
    outliers = _ranked(known[known["distance"].notna()], "distance")[[*COLUMNS, "distance", "unlike"]]
    return Audit(len(known), suspects, outliers, _pairs(suspects), _copies(known, _groups(known)))


def _groups(images: pd.DataFrame) -> NDArray[np.int64]:
    """A number for each image, equal for copies: of bytes or near ones."""
    near = images["near_group"].astype("object")
    names = near.where(near.notna(), images["sha256"])
    return np.asarray(pd.factorize(names.astype(str))[0], np.int64)


def _suspects(
    images: pd.DataFrame, labels: NDArray[np.int64], found: OutOfFold, class_names: Sequence[str]
) -> pd.DataFrame:
    table = images.loc[:, list(COLUMNS)].assign(
        suggested=np.asarray(class_names, object)[found.suggested],
        probability=found.probability,
        suspicion=1.0 - found.given,
        sure=found.probability >= _usual(labels, found, len(class_names))[found.suggested],
    )
    doubted: pd.DataFrame = table[found.suggested != labels]
    return _ranked(doubted, "suspicion")


def _ranked(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    return rows.sort_values(by, ascending=False, kind="stable").reset_index(drop=True)


def _usual(labels: NDArray[np.int64], found: OutOfFold, classes: int) -> NDArray[np.float64]:
    """How likely images of each class usually are of it: confident learning's threshold (Northcutt and others 2021)."""
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.bincount(labels, found.given, classes) / np.maximum(counts, 1), np.float64)


def _pairs(suspects: pd.DataFrame) -> tuple[Pair, ...]:
    groups = suspects.groupby(["class_name", "suggested"], sort=True)["sure"].agg(["size", "sum"])
    found = [
        Pair(str(labelled), str(suggested), int(size), int(sure))
        for (labelled, suggested), size, sure in groups.itertuples()
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.images, pair.labelled, pair.suggested)))


def _copies(images: pd.DataFrame, groups: NDArray[np.int64]) -> dict[str, int]:
    of_class = pd.Series(groups).groupby(images["class_name"].to_numpy())
    found = of_class.size() - of_class.nunique()
    return {str(name): int(count) for name, count in found.items() if count}
