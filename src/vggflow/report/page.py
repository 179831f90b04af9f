"""What stands on the report page: numbers put into words, and pictures into `data:` addresses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vggflow.audit.suspects import Audit
from vggflow.data.contents import Contents, Place
from vggflow.data.thumbnails import thumbnail
from vggflow.evaluation import metrics
from vggflow.evaluation.heat import MakeHeatMaps
from vggflow.promotion.comparison import Comparison, Side, known
from vggflow.promotion.decision import Decision
from vggflow.report import examples, pictures, plots, wording
from vggflow.report.examples import Example, Examples
from vggflow.report.slices import slices

Row = dict[str, Any]
# 24 mistakes and twice 24 disagreements lie in the page itself, so they are small.
THUMBNAIL_PX = 160
SUSPECTS_SHOWN, PAIRS_SHOWN = 12, 8


@dataclass(frozen=True)
class Doubts:
    """Labels that may be wrong: which images were looked at, in words, and what was found; None where none were."""

    looked_at: str
    audit: Audit | None


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
        figures: Those of the challenger that `plots.draw_all` drew already, by name.
        heat_maps: Makes the heat maps beside the worst mistakes, see `heat.heat_maps`; none without it.
        doubts: Labels that may be wrong; none without it.
    """

    title: str
    comparison: Comparison
    images: pd.DataFrame
    data_folder: Path
    decision: Decision | None = None
    history: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    heat_maps: MakeHeatMaps | None = None
    doubts: Doubts | None = None

    @cached_property
    def contents(self) -> Contents:
        """Where the images are."""
        return Contents(self.data_folder)


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
        "facts": dict(page.facts) | dict(_times(page)),
        "measured": measured,
        "champion": other,
        "left_out": len(page.comparison.seen.paths),
        "tiles": list(wording.tiles(measured, evidence)) if measured else [],
        "gain": wording.gain(evidence),
        "joint": evidence.joint if evidence else None,
        "measures": list(wording.measures(measured, other)) if measured else [],
        "classes": list(wording.classes(measured, other)) if measured else [],
        "figures": list(_figures(page, measured, other)),
        "slices": slices(page.comparison, page.images),
        "mistakes": _mistakes(page),
        "heat": page.heat_maps is not None,
        "won": _shown(page, won),
        "lost": _shown(page, lost),
        "suspects": _suspects(page),
        "pairs": page.doubts.audit.pairs[:PAIRS_SHOWN] if page.doubts and page.doubts.audit else (),
    }


def _measure(side: Side) -> Row | None:
    """The measures on images of the classes that this model knows; None if no such image is left."""
    images = known(side)
    # With bootstrap intervals: half a second for 2,000 images, on each side.
    return None if images.empty else metrics.measure(images, side.class_names, side.temperature)


def _times(page: Page) -> Iterator[tuple[str, str]]:
    sides = {"challenger": page.comparison.challenger, "champion": page.comparison.champion}
    for name, side in sides.items():
        if side is not None and side.seconds is not None:
            # By all images, not those that count: what was left out was scored too.
            each = 1000 * side.seconds / max(1, len(page.images))
            yield f"{name} scored in", f"{side.seconds:.1f} s, {each:.0f} ms an image"


def _figures(page: Page, measured: Row | None, other: Row | None) -> Iterator[Row]:
    challenger = page.comparison.challenger
    if page.history:
        caption = "Training and validation, phase by phase"
        yield _figure(
            page, "learning_curves", lambda: plots.learning_curves(page.history), caption, wide=True
        )
    if measured is None:
        return
    caption = "What is taken for what" + (" by the challenger" if other else "")
    yield _figure(page, "confusion_matrix", lambda: plots.confusion_matrix(measured), caption)
    if other is not None:
        caption = "What is taken for what by the champion"
        yield _row(pictures.figure(plots.confusion_matrix(other)), caption)
    caption = "How far the model's confidence can be trusted"
    yield _figure(page, "reliability", lambda: plots.reliability(measured), caption)
    if other is not None:
        yield _row(pictures.figure(plots.reliability(other)), "The champion's")
    caption = "Hits against false alarms, precision against recall"
    answers = known(challenger)
    names = challenger.class_names
    yield _figure(page, "roc_and_pr", lambda: plots.roc_and_pr(answers, names), caption, wide=True)


def _figure(page: Page, name: str, draw: Callable[[], Figure], caption: str, wide: bool = False) -> Row:
    drawn = page.figures.get(name)
    return _row(pictures.png(drawn) if drawn else pictures.figure(draw()), caption, wide)


def _row(picture: str, caption: str, wide: bool = False) -> Row:
    return {"picture": picture, "caption": caption, "wide": wide}


def _mistakes(page: Page) -> list[Shown]:
    worst = examples.worst_mistakes(page.comparison.challenger.predictions)
    shown = _shown(page, worst)
    # Of an image that is gone there is nothing to look at.
    here = [number for number, example in enumerate(shown) if example.pictures]
    if page.heat_maps is None or not here:
        return shown
    # All in one call, which loads the network, and may start a process for it.
    looked = page.heat_maps([(_place(page, worst[number]), worst[number].answer) for number in here])
    for number, seen in zip(here, looked, strict=True):
        shown[number] = Shown(worst[number], (*shown[number].pictures, pictures.heat_map(seen)))
    return shown


def _shown(page: Page, chosen: Examples) -> list[Shown]:
    drawn = [(example, thumbnail(_place(page, example), THUMBNAIL_PX)) for example in chosen]
    return [Shown(example, () if picture is None else (picture,)) for example, picture in drawn]


def _suspects(page: Page) -> list[dict[Any, Any]]:
    if page.doubts is None or page.doubts.audit is None:
        return []
    rows = page.doubts.audit.suspects.head(SUSPECTS_SHOWN).to_dict("records")
    return [{**row, "picture": thumbnail(page.contents.place(row["path"]), THUMBNAIL_PX)} for row in rows]


def _place(page: Page, example: Example) -> Place:
    return page.contents.place(example.path)
