"""The data gate, whole: looks at every file, finds copies, leaves out what is to be left out, and judges."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vggflow.data import layout
from vggflow.data import manifest as manifests
from vggflow.gate import exclude, great_expectations_suites, label_doubts
from vggflow.gate.near_copies import Marked, NearLimits, mark_near_copies
from vggflow.gate.rules import rules
from vggflow.gate.scan import scan
from vggflow.gate.tables import tables as tables_of
from vggflow.gate.verdict import Verdict, decide
from vggflow.importing.summary import counts_table
from vggflow.settings import ValidateSettings

if TYPE_CHECKING:
    from rich.console import RenderableType

Progress = Callable[[int, int], None]
# Opens a progress bar with a name.
Bars = Callable[[str], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class Judgement:
    """The manifest with copies marked and files left out, and the verdict on it."""

    manifest: pd.DataFrame
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the verdict, and the images that can be used, per split and class."""
        return {"images": manifests.counts(self.manifest)} | self.verdict.to_dict()

    def to_table(self) -> "RenderableType":
        """Images per class and split, then the problems, for the terminal."""
        from rich.console import Group, RenderableType
        from rich.text import Text

        counts = counts_table(manifests.counts(self.manifest))
        problems: list[RenderableType] = ["", self.verdict.to_table()] if self.verdict.problems else []
        notes: list[RenderableType] = [Text(f"{name}: {note}") for name, note in self.verdict.notes.items()]
        return Group(counts, *problems, *notes)


def judge(
    data_folder: Path,
    settings: ValidateSettings,
    docs_folder: Path,
    *,
    cache: Path | None = None,
    reference: pd.DataFrame | None = None,
    audited: pd.DataFrame | None = None,
    bars: Bars = lambda _: nullcontext(),
) -> Judgement:
    """Judges the data and writes Data Docs; changes nothing below the data folder.

    Args:
        cache: a folder in which the scan remembers what it saw, so the next one reads only what has changed.
        reference: the manifest of the champion's data, to compare classes, their shares and labels with.
        audited: what the last audit said of each image that it saw, see `label_doubts.doubts`.
        bars: opens a bar for `scan` (files read, files in total) and for `compare` (pairs of pictures).

    Raises:
        DataError: there is no data folder, a split that training needs is missing, or there is no file.
    """
    folders = layout.class_folders(data_folder)
    manifest, not_compared = look(data_folder, settings, cache=cache, bars=bars)
    doubted = label_doubts.doubts(manifest, audited)
    tables = tables_of(manifest, folders, reference, doubted.beyond(settings.max_label_suspects))
    wanted = rules(settings)
    # What can't be told is no expectation that is met.
    asked = [rule for rule in wanted if rule.name != label_doubts.NAME or doubted.checked]
    told = doubted.note and any(rule.name == label_doubts.NAME for rule in wanted)
    notes = {label_doubts.NAME: doubted.note} if told else {}
    verdict = decide(manifest, tables, asked, not_compared, notes)
    great_expectations_suites.confirm(verdict, tables, asked, docs_folder)
    return Judgement(manifest, verdict)


def look(
    data_folder: Path,
    settings: ValidateSettings,
    *,
    cache: Path | None = None,
    bars: Bars = lambda _: nullcontext(),
) -> Marked:
    """The manifest of the data as they are, with copies marked and files left out; see `judge`."""
    limits = NearLimits(settings.near_hash_distance, settings.near_similarity, settings.near_min_detail)
    with bars("scan") as progress:
        scanned = scan(data_folder, progress, cache)
    with bars("compare") as progress:
        marked = mark_near_copies(scanned, data_folder, limits, progress, cache)
    return marked._replace(manifest=exclude.exclude(marked.manifest, settings))
