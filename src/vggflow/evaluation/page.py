"""What stands on the report page: numbers put into words, and pictures into `data:` addresses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from vggflow.evaluation import examples, metrics, pictures, plots
from vggflow.evaluation.comparison import Comparison, Side, known
from vggflow.evaluation.decision import Decision
from vggflow.evaluation.evidence import Evidence
from vggflow.evaluation.examples import Example, Examples
from vggflow.evaluation.heat import Looking
from vggflow.evaluation.slices import slices

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


@dataclass(frozen=True)
class Page:
    """What the page is made from.

    Attributes:
        title: The heading.
        comparison: The model, as challenger, and the champion if there is one.
        images: The rows of the manifest that were scored.
        data_folder: Where the images lie; one that is gone is shown by its path alone.
        decision: The decision, if one was asked for.
        history: The training, a row per epoch.
        facts: Names and values for the head of the page: versions, data, who, when.
        looking: Makes the heat maps beside the worst mistakes, see `heat.looking`; none without it.
    """

    title: str
    comparison: Comparison
    images: pd.DataFrame
    data_folder: Path
    decision: Decision | None = None
    history: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    looking: Looking | None = None


@dataclass(frozen=True)
class Shown:
    """An example and its pictures, as `data:` addresses; none if the image is gone."""

    example: Example
    pictures: tuple[str, ...]


def content(page: Page) -> Row:
    """Everything that the template shows."""
    measured = _measure(page.comparison.challenger)
    champion = page.comparison.champion
    other = _measure(champion) if champion else None
    evidence = page.decision.evidence if page.decision else None
    won, lost = examples.disagreements(page.comparison)
    return {
        "page": page,
        "decision": page.decision,
        "facts": dict(page.facts) | dict(_times(page.comparison)),
        "measured": measured,
        "champion": other,
        "left_out": len(page.comparison.seen.paths),
        "tiles": list(_tiles(measured, evidence)),
        "gain": _gain(evidence),
        "joint": evidence.joint if evidence else None,
        "measures": list(_measures(measured, other)),
        "classes": list(_classes(measured, other)),
        "figures": list(_figures(page, measured, other)),
        "slices": slices(page.comparison, page.images),
        "mistakes": _mistakes(page),
        "heat": page.looking is not None,
        "won": _shown(page, won),
        "lost": _shown(page, lost),
    }


def _measure(side: Side) -> Row:
    """The measures on images of the classes that this model knows."""
    return metrics.measure(known(side), side.class_names, side.temperature)


def _times(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for name, side in (("challenger", comparison.challenger), ("champion", comparison.champion)):
        if side is not None and side.seconds is not None:
            each = 1000 * side.seconds / max(1, len(side.predictions))
            yield f"{name} scored in", f"{side.seconds:.1f} s, {each:.0f} ms an image"


def _tiles(measured: Row, evidence: Evidence | None) -> Iterator[Row]:
    low, high = measured["intervals"]["accuracy"]
    images = f"{measured['images']:,} images"
    yield _tile("accuracy", _share(measured["accuracy"]), f"{_share(low)} – {_share(high)} on {images}")
    if evidence and evidence.champion:
        gain = evidence.joint.gain
        yield _tile(
            "gain on the champion", f"{100 * gain:+.1f} %", f"on the same {evidence.joint.images:,} images"
        )
    recall, worst = min(
        (row["recall"], name) for name, row in measured["per_class"].items() if row["support"]
    )
    yield _tile("weakest class", _share(recall), f"recall of {worst}")
    yield _tile("calibration error", _plain(measured["calibration_error"]), "0 is perfect")
    if evidence and evidence.earlier_decisions is not None:
        yield _tile("decisions before", str(evidence.earlier_decisions), "that this test set has served")


def _tile(name: str, value: str, note: str) -> Row:
    return {"name": name, "value": value, "note": note}


def _gain(evidence: Evidence | None) -> Row | None:
    """Positions of the gain and its interval on a line of 720 units."""
    if evidence is None or evidence.gain_interval is None:
        return None
    gain, (low, high) = evidence.joint.gain, evidence.gain_interval
    step = _round_up(max(abs(low), abs(high), 0.01) / 3)
    reach = 3 * step

    def place(value: float) -> float:
        return round(360 + 320 * value / reach, 1)

    return {
        "zero": place(0.0),
        "point": place(gain),
        "low": place(low),
        "width": max(1.0, round(place(high) - place(low), 1)),
        "label": f"{100 * gain:+.2f} % ({100 * low:+.2f} to {100 * high:+.2f})",
        "ticks": [{"x": place(n * step), "label": f"{100 * n * step:g} %"} for n in range(-3, 4)],
    }


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def _measures(measured: Row, other: Row | None) -> Iterator[Row]:
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


def _classes(measured: Row, other: Row | None) -> Iterator[Row]:
    for name, row in measured["per_class"].items():
        before = other["per_class"].get(name, {}).get("recall") if other else None
        change = None if before is None or row["recall"] is None else row["recall"] - before
        interval = _written(measured["intervals"]["per_class"][name]["recall"], _share)
        yield row | {"name": name, "interval": interval, "other": before, "change": change}


def _figures(page: Page, measured: Row, other: Row | None) -> Iterator[Row]:
    challenger = page.comparison.challenger
    if page.history:
        yield _figure(
            plots.learning_curves(page.history), "Training and validation, phase by phase", wide=True
        )
    yield _figure(
        plots.confusion_matrix(measured), "What is taken for what" + (" by the challenger" if other else "")
    )
    if other is not None:
        yield _figure(plots.confusion_matrix(other), "What is taken for what by the champion")
    yield _figure(plots.reliability(measured), "How far the model's confidence can be trusted")
    if other is not None:
        yield _figure(plots.reliability(other), "The champion's")
    curves = plots.roc_and_pr(known(challenger), challenger.class_names)
    yield _figure(curves, "Hits against false alarms, precision against recall", wide=True)


def _figure(drawn: Any, caption: str, wide: bool = False) -> Row:
    return {"picture": pictures.figure(drawn), "caption": caption, "wide": wide}


def _mistakes(page: Page) -> list[Shown]:
    worst = examples.worst_mistakes(page.comparison.challenger.predictions)
    shown = _shown(page, worst)
    here = [number for number, example in enumerate(shown) if example.pictures]
    if page.looking is None or not here:
        return shown
    looked = page.looking([(_path(page, worst[number]), worst[number].answer) for number in here])
    for number, seen in zip(here, looked, strict=True):
        shown[number] = Shown(worst[number], (*shown[number].pictures, pictures.heat_map(seen)))
    return shown


def _shown(page: Page, chosen: Examples) -> list[Shown]:
    drawn = [(example, pictures.thumbnail(_path(page, example))) for example in chosen]
    return [Shown(example, () if picture is None else (picture,)) for example, picture in drawn]


def _path(page: Page, example: Example) -> Path:
    return page.data_folder / PurePosixPath(example.path)


def _between(measured: Row, key: str, write: Callable[[float | None], str]) -> str:
    return _written(measured["intervals"].get(key), write)


def _written(interval: Sequence[float] | None, write: Callable[[float | None], str]) -> str:
    return "" if interval is None else f"({write(interval[0])} – {write(interval[1])})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
