"""The data report: one HTML page that needs nothing else, for a person who wants to see what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

import jinja2
import pandas as pd

from vggflow import files
from vggflow.data.changes import KINDS, Changes
from vggflow.data.contents import Contents
from vggflow.data.layout import SPLITS
from vggflow.data.names import printable
from vggflow.data.thumbnails import thumbnail
from vggflow.gate.judge import Judgement
from vggflow.gate.verdict import Problem

THUMBNAIL_PX = 148
ON_A_SHEET = 12
LISTED = 500
SIZES_PX = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Tile:
    """A file on a contact sheet: its picture and, for a copy, the other one's, as data URIs."""

    path: str
    reason: str
    picture: str | None
    other: str | None
    other_picture: str | None


@dataclass(frozen=True)
class Sheet:
    """A problem with its first files as tiles and the others as a list of `(path, reason)`."""

    problem: Problem
    tiles: list[Tile]
    listed: list[tuple[str, str]]
    left_out: int


@dataclass(frozen=True)
class Bar:
    """A line of a bar chart; `share` of the longest bar, 0–1."""

    label: str
    count: int
    share: float


def write_report(
    judgement: Judgement,
    data_folder: Path,
    path: Path,
    changes: Changes | None = None,
    since: str = "the champion's data",
) -> None:
    """Writes the page, whole or not at all.

    Args:
        changes: what changed since other data, where there is a model already.
        since: whose those other data are.
    """
    files.write_text(path, render(judgement, data_folder, changes, since))


def render(
    judgement: Judgement,
    data_folder: Path,
    changes: Changes | None = None,
    since: str = "the champion's data",
) -> str:
    """The page as HTML."""
    # Names of files are text from outside and may be HTML.
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["printable"] = printable
    source = resources(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    manifest, verdict = judgement.manifest, judgement.verdict
    usable = manifest[manifest["error"].isna() & manifest["excluded"].isna()]
    broken = {problem.expectation: problem.severity for problem in verdict.problems}
    return environment.from_string(source).render(
        verdict=verdict,
        files=len(manifest),
        usable=len(usable),
        splits=SPLITS,
        counts=_counts(usable),
        sizes=_sizes(usable),
        formats=_bars(usable["format"].value_counts()),
        sheets=[_sheet(problem, Contents(data_folder)) for problem in verdict.problems],
        since=since,
        expectations=[(name, broken.get(name, "met")) for name in verdict.expectations],
        changes=changes,
        changed_counts=changes.rows() if changes else [],
        kinds=KINDS,
    )


def _counts(usable: pd.DataFrame) -> list[tuple[str, dict[str, Bar]]]:
    sizes = usable.groupby(["class_name", "split"]).size().reset_index(name="count")
    largest = max(sizes["count"].max(), 1) if len(sizes) else 1
    rows: dict[str, dict[str, Bar]] = {}
    for name, split, count in sizes.itertuples(index=False):
        rows.setdefault(name, {})[split] = Bar(split, int(count), count / largest)
    return sorted(rows.items())


def _sizes(usable: pd.DataFrame) -> list[Bar]:
    """How many pictures have a longer side of up to so many pixels."""
    longer = usable[["width", "height"]].max(axis=1).astype(float)
    edges = [0, *SIZES_PX, float("inf")]
    labels = [*(f"up to {size} px" for size in SIZES_PX), f"over {SIZES_PX[-1]} px"]
    counts = pd.cut(longer, edges, labels=labels).value_counts(sort=False)
    filled = counts.to_numpy().nonzero()[0]
    return _bars(counts.iloc[filled[0] : filled[-1] + 1]) if len(filled) else []


def _bars(counts: "pd.Series[int]") -> list[Bar]:
    largest = max(int(counts.max()), 1) if len(counts) else 1
    return [Bar(str(label), int(count), count / largest) for label, count in counts.items()]


def _sheet(problem: Problem, contents: Contents) -> Sheet:
    entries = _once_per_pair(problem)
    # A link's picture may be one that nobody meant to show.
    shown = 0 if problem.expectation == "links" else ON_A_SHEET
    tiles = [
        Tile(
            path,
            reason,
            thumbnail(contents.place(path), THUMBNAIL_PX),
            other,
            thumbnail(contents.place(other), THUMBNAIL_PX) if other else None,
        )
        for path, reason, other in entries[:shown]
    ]
    # Of files that can't be read there is nothing to see: a list says as much in less room.
    if not any(tile.picture for tile in tiles):
        tiles = []
    listed = [(path, reason) for path, reason, _ in entries[len(tiles) : len(tiles) + LISTED]]
    return Sheet(problem, tiles, listed, len(entries) - len(tiles) - len(listed))


def _once_per_pair(problem: Problem) -> list[tuple[str, str, str | None]]:
    """Of two files that are copies of each other only the first: the picture shows both."""
    others: Sequence[str | None] = problem.others or [None] * len(problem.paths)
    seen: set[tuple[str, str]] = set()
    entries = []
    for path, reason, other in zip(problem.paths, problem.reasons, others, strict=True):
        if other is None or (other, path) not in seen:
            entries.append((path, reason, other))
        if other is not None:
            seen.add((path, other))
    return entries
