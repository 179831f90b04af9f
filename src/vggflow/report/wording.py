"""The numbers of the report page, put into words and places."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vggflow.promotion.evidence import Evidence

Row = dict[str, Any]

# The measures that the table shows: how they are called, written, and which direction is good.
MEASURES = {
    "accuracy": ("accuracy", "share", "more is better"),
    "balanced_accuracy": ("balanced accuracy", "share", "mean recall of the classes"),
    "macro_f1": ("macro F1", "plain", "mean F1 of the classes"),
    "roc_area": ("ROC area", "plain", "0.5 is chance, mean of the classes"),
    "pr_area": ("PR area", "plain", "average precision, mean of the classes"),
    "log_loss": ("log loss", "plain", "less is better"),
    "brier": ("Brier score", "plain", "less is better"),
    "calibration_error": ("calibration error", "plain", "less is better; how far confidence misses accuracy"),
}


def tiles(measured: Row, evidence: Evidence | None) -> Iterator[Row]:
    """The few numbers that everybody looks for first: name, value, note."""
    low, high = measured["intervals"]["accuracy"]
    images = f"{measured['images']:,} images"
    yield _tile("accuracy", _share(measured["accuracy"]), f"{_share(low)} – {_share(high)} on {images}")
    if evidence and evidence.champion:
        found = evidence.joint.gain
        yield _tile(
            "gain on the champion", f"{100 * found:+.1f} %", f"on the same {evidence.joint.images:,} images"
        )
    # Never empty: what is measured has images.
    recall, worst = min(
        (row["recall"], name) for name, row in measured["per_class"].items() if row["support"]
    )
    yield _tile("weakest class", _share(recall), f"recall of {worst}")
    yield _tile("calibration error", _plain(measured["calibration_error"]), "0 is perfect")
    if evidence and evidence.earlier_decisions is not None:
        yield _tile("decisions before", str(evidence.earlier_decisions), "that this test set has served")


def _tile(name: str, value: str, note: str) -> Row:
    return {"name": name, "value": value, "note": note}


def gain(evidence: Evidence | None) -> Row | None:
    """Positions of the gain and its interval on a line of 720 units."""
    if evidence is None or evidence.gain_interval is None:
        return None
    found, (low, high) = evidence.joint.gain, evidence.gain_interval
    # At least a line of ±1 %: an interval of no width has no scale, and no logarithm.
    step = _round_up(max(abs(low), abs(high), 0.01) / 3)
    reach = 3 * step

    def place(value: float) -> float:
        return round(360 + 320 * value / reach, 1)

    return {
        "zero": place(0.0),
        "point": place(found),
        "low": place(low),
        # Seen at any width.
        "width": max(1.0, round(place(high) - place(low), 1)),
        "label": f"{100 * found:+.2f} % ({100 * low:+.2f} to {100 * high:+.2f})",
        "ticks": [{"x": place(n * step), "label": f"{100 * n * step:g} %"} for n in range(-3, 4)],
    }


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    # The small part takes care of 0.1 that was computed as 0.10000000000000002, which is no 0.2.
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def measures(measured: Row, other: Row | None) -> Iterator[Row]:
    """A row per measure: name, note, value and interval, and the champion's where there is one."""
    for key, (name, form, note) in MEASURES.items():
        write = _share if form == "share" else _plain
        row = {
            "name": name,
            "note": note,
            "value": write(measured[key]),
            "interval": _between(measured, key, write),
        }
        if other is not None:
            row |= {"other": write(other[key]), "other_interval": _between(other, key, write)}
        yield row
    calibration = measured["calibration"]
    if calibration["temperature"] != 1.0:
        name = "calibration error before temperature"
        note = f"temperature {calibration['temperature']:.2f}, fitted on valid"
        yield {"name": name, "note": note, "value": _plain(calibration["before"]["error"])}


def classes(measured: Row, other: Row | None) -> Iterator[Row]:
    """A row per class: its measures, the recall's interval, the champion's recall, and the change from it."""
    for name, row in measured["per_class"].items():
        before = other["per_class"].get(name, {}).get("recall") if other else None
        change = None if before is None or row["recall"] is None else row["recall"] - before
        interval = _written(measured["intervals"]["per_class"][name]["recall"], _share)
        yield row | {"name": name, "interval": interval, "other": before, "change": change}


def _between(measured: Row, key: str, write: Callable[[float | None], str]) -> str:
    return _written(measured["intervals"].get(key), write)


def _written(interval: Sequence[float] | None, write: Callable[[float | None], str]) -> str:
    return "" if interval is None else f"({write(interval[0])} – {write(interval[1])})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
