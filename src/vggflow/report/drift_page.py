"""The page of a look for drift: which tests moved, how answers lie, and held-out images near to and far from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vggflow import files
from vggflow.data.contents import Place
from vggflow.data.thumbnails import thumbnail
from vggflow.drift.compare import CLASS_SHARES, SIGNIFICANCE, Drift, Projected, project
from vggflow.prediction.observations import Observations
from vggflow.report import pictures
from vggflow.report.plots import BLUE, ORANGE
from vggflow.report.write import environment

EXAMPLES = 8
BINS = 30
CLASSES_SHOWN = 20
THUMBNAIL_PX = 160
TEMPLATE = "drift.html.j2"


@dataclass(frozen=True)
class DriftPage:
    """What the page is made from.

    Attributes:
        title: The heading.
        drift: What was found.
        held_out: The answers on held-out images.
        places: Where these images are, for each row of `held_out`.
        data_folder: What their paths are shown relative to.
        now: The answers of now.
        facts: Names and values for the head of the page.
    """

    title: str
    drift: Drift
    held_out: Observations
    places: Sequence[Place]
    data_folder: Path
    now: Observations
    facts: Mapping[str, str]


def write(page: DriftPage, path: Path) -> None:
    """Writes the page, whole or not at all: one HTML document without scripts or outside addresses."""
    found = project(page.held_out, page.now)
    moved = page.drift.shares
    shares = sorted(
        ((name, before, now) for name, (before, now) in moved.items()), key=lambda row: -abs(row[2] - row[1])
    )
    content = {
        "title": page.title,
        "drift": page.drift,
        "verdict": verdict(page.drift),
        "significance": SIGNIFICANCE,
        "facts": page.facts,
        "figures": list(_figures(page, found)),
        "shares": shares[:CLASSES_SHOWN],
        "examples": list(_examples(page, found)),
    }
    files.write_text(path, environment().get_template(TEMPLATE).render(content))


def verdict(drift: Drift) -> str:
    """In one line: how many tests moved, which first, of how many images; and why classes alone were compared."""
    of = f"{drift.images:,} answers beside {drift.held_out:,} held-out images"
    alone = f"; classes alone: {drift.classes_alone}" if drift.classes_alone else ""
    if not drift.found:
        return f"none of {len(drift.shifts)} tests moved, {of}{alone}"
    first = drift.moved[0]
    about = f" ({first.about})" if first.about else ""
    return (
        f"{len(drift.moved)} of {len(drift.shifts)} tests moved, {first.name}{about} most surely "
        f"(p = {first.p_value:.2g}), {of}{alone}"
    )


def _figures(page: DriftPage, found: Projected | None) -> Iterator[dict[str, Any]]:
    if found is not None:
        number = _most_moved(page.drift)
        caption = f"Component {number + 1} of the features: held out and now"
        before, now = found.held_out[:, number], found.now[:, number]
        edges = np.histogram_bin_edges(np.concatenate([before, now]), BINS)
        drawn = _histogram(before, now, edges, "value")
        yield {"caption": caption, "picture": pictures.figure(drawn)}
    edges = np.linspace(0, 1, BINS + 1)
    drawn = _histogram(page.held_out.confidence, page.now.confidence, edges, "confidence")
    yield {"caption": "Confidence of the answers: held out and now", "picture": pictures.figure(drawn)}


def _most_moved(drift: Drift) -> int:
    components = [shift for shift in drift.shifts if shift.name != CLASS_SHARES]
    return int(np.argmin([shift.p_value - shift.distance * 1e-12 for shift in components]))


def _histogram(
    before: NDArray[np.float64], now: NDArray[np.float64], edges: NDArray[np.float64], name: str
) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for values, colour, label in ((before, BLUE, "held out"), (now, ORANGE, "now")):
        # Shares: the sides have different numbers of images.
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)
    axes.set(xlabel=name, ylabel="share of the images")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _examples(page: DriftPage, found: Projected | None) -> Iterator[dict[str, Any]]:
    """Of pictures that were asked about nothing is kept, so held-out ones show what a component means."""
    if found is None:
        return
    number = _most_moved(page.drift)
    away = np.abs(found.held_out[:, number] - np.median(found.now[:, number]))
    order = np.argsort(away, kind="stable")
    note = f"Held-out images by component {number + 1}: where the middle of the answers of now lies."
    yield {"title": "Nearest to what comes now", "note": note, "images": _shown(page, order[:EXAMPLES])}
    note = "What used to come and is rarer now, or comes no more."
    yield {"title": "Farthest from it", "note": note, "images": _shown(page, order[::-1][:EXAMPLES])}


def _path(place: Place, data_folder: Path) -> str:
    return place.name or Path(place.file).relative_to(data_folder).as_posix()


def _shown(page: DriftPage, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {
            "path": _path(page.places[row], page.data_folder),
            "picture": thumbnail(page.places[row], THUMBNAIL_PX),
        }
        for row in rows
    ]
