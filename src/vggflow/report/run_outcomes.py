"""What came of two trainings, side by side: measures with their intervals, and both on the images in common."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from vggflow.evaluation import intervals
from vggflow.prediction import table
from vggflow.promotion import comparison, statistics

Interval = tuple[float, float] | None

SHARES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
PLAIN = {"log_loss": "log loss", "calibration_error": "calibration error"}
VALID = "model_val_accuracy"


@dataclass(frozen=True)
class Outcome:
    """What MLflow has of how a training did.

    Attributes:
        numbers: The last value of each metric of its run.
        valid_images: How many images it was measured on while it learned; None where nobody wrote that down.
        measured: The measures of its evaluation; None where it was never evaluated, or they are not there.
        predictions: Its answers to the images of the evaluation; None likewise.
        trained_on: The images that it learned from; None where the table is not there.
        missing: Why predictions are not there.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    valid_images: int | None = None
    measured: Mapping[str, Any] | None = None
    predictions: pd.DataFrame | None = None
    trained_on: pd.DataFrame | None = None
    missing: str = "never evaluated"

    @property
    def split(self) -> str | None:
        """Where it was measured, `test` or `valid`; None where it was not."""
        if self.measured:
            return str(self.measured["split"])
        return next((split for split in ("test", "valid") if f"{split}/accuracy" in self.numbers), None)


@dataclass(frozen=True)
class Value:
    """A measure and its 95 % interval, where there is one."""

    value: float
    interval: Interval = None


@dataclass(frozen=True)
class Measure:
    """A measure of both; None where one does not have it.

    Attributes:
        name: For people.
        is_share: Whether it is written in percent.
    """

    name: str
    is_share: bool
    first: Value | None
    second: Value | None

    @property
    def change(self) -> float | None:
        """The second less the first; None where one is missing."""
        return self.second.value - self.first.value if self.first and self.second else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"change": self.change}


@dataclass(frozen=True)
class Paired:
    """Both models on the images that both answered.

    Attributes:
        images: How many.
        only_first: How many only the first one has right; `only_second` the other way round.
        gain: The second's accuracy less the first's.
        interval: The gain's, 95 %.
        p: McNemar's exact test: how often equal models would differ so much.
        left_out: Images in common that one of them had learned from.
        not_in_common: Images that only one of them was asked about.
    """

    images: int
    only_first: int
    only_second: int
    gain: float
    interval: Interval
    p: float
    left_out: int = 0
    not_in_common: tuple[int, int] = (0, 0)

    @property
    def is_significant(self) -> bool:
        """Whether chance hardly explains it."""
        return self.p < statistics.SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def measures(first: Outcome, second: Outcome) -> list[Measure]:
    """Accuracy on valid, then the measures of the evaluation."""
    rows = [Measure("accuracy on valid", True, _valid(first), _valid(second))]
    # What was measured on other splits is not one measure.
    splits = sorted({split for split in (first.split, second.split) if split})
    for split in splits:
        sides = [side if side.split == split else Outcome() for side in (first, second)]
        for names, is_share in ((SHARES, True), (PLAIN, False)):
            for key, name in names.items():
                values = [_value(side, key) for side in sides]
                rows.append(Measure(f"{name} on {split}", is_share, *values))
    return [row for row in rows if row.first or row.second]


def recalls(first: Outcome, second: Outcome) -> list[Measure]:
    """The recall of each class, those first that differ most."""
    found = [dict(_recalls(side)) for side in (first, second)]
    if not all(found) or first.split != second.split:
        return []
    names = sorted({*found[0], *found[1]})
    rows = [Measure(name, True, found[0].get(name), found[1].get(name)) for name in names]
    return sorted(rows, key=lambda row: -abs(row.change) if row.change is not None else 1.0)


def pair(first: Outcome, second: Outcome) -> Paired | str:
    """Both on the images in common; or why they can't be paired."""
    if first.predictions is None or second.predictions is None:
        gone = [
            f"{n}: {side.missing}" for n, side in (("A", first), ("B", second)) if side.predictions is None
        ]
        return "; ".join(gone)
    if first.split != second.split:
        return f"A was measured on {first.split}, B on {second.split}"
    mine, theirs = in_common(first.predictions, second.predictions)
    if mine.empty:
        return f"no image of {first.split} in common: other {first.split} images"
    compared = comparison.compare(
        comparison.Side(theirs, table.class_names(theirs), 0.0, second.trained_on),
        comparison.Side(mine, table.class_names(mine), 0.0, first.trained_on),
        "",
        mine[["path", "sha256"]].assign(split=first.split),
    )
    found = comparison.evidence(compared)
    joint = found.joint
    if not joint.images:
        return f"of the {len(mine)} images in common each was learned from, or is of a class that one does not know"
    return Paired(
        joint.images,
        joint.only_champion,
        joint.only_challenger,
        joint.gain,
        found.gain_interval,
        float(statistics.mcnemar(joint.only_challenger, joint.only_champion)),
        len(compared.seen.paths),
        (len(first.predictions) - len(mine), len(second.predictions) - len(mine)),
    )


def in_common(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of two predictions tables about the same bytes with the same true class, in the same order.

    Where the bytes lie is no matter: both get the paths of the first.
    """
    keys = ["sha256", "truth", "turn"]
    sides = []
    for side in (first, second):
        turn = side.groupby(
            ["sha256", "truth"]
        ).cumcount()  # else two copies here and two there make four pairs
        sides.append(side[["sha256", "truth"]].assign(turn=turn.to_numpy(), row=range(len(side))))
    both = sides[0].merge(sides[1], on=keys, suffixes=("", "_second"))
    mine = first.iloc[both["row"].to_numpy()].reset_index(drop=True)
    theirs = second.iloc[both["row_second"].to_numpy()].reset_index(drop=True)
    return mine, theirs.assign(path=mine["path"])


def _valid(side: Outcome) -> Value | None:
    value = side.numbers.get(VALID)
    return None if value is None else Value(value, _of_share(value, side.valid_images))


def _value(side: Outcome, key: str) -> Value | None:
    """From the file of the evaluation; where only the run's numbers are there, from them."""
    if side.measured:
        value = side.measured.get(key)
        between = side.measured.get("intervals", {}).get(key)
        return None if value is None else Value(value, (between[0], between[1]) if between else None)
    value = side.numbers.get(f"{side.split}/{key}")
    if value is None:
        return None
    images = side.numbers.get(f"{side.split}/images") if key == "accuracy" else None
    return Value(value, _of_share(value, images))


def _of_share(value: float, images: float | None) -> Interval:
    return intervals.of_share(value, int(images)) if images else None


def _recalls(side: Outcome) -> Iterator[tuple[str, Value]]:
    measured = side.measured or {}
    between = measured.get("intervals", {}).get("per_class", {})
    for name, row in measured.get("per_class", {}).items():
        if row.get("recall") is not None:
            found = between.get(name, {}).get("recall")
            yield name, Value(row["recall"], (found[0], found[1]) if found else None)
