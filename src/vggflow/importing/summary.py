"""What an import did, for people and programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vggflow.data import layout
from vggflow.data.names import printable
from vggflow.errors import DataError
from vggflow.importing.sources import Skipped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_REASONS = 5  # an error is one line


@dataclass(frozen=True)
class ImportSummary:
    """What an import did, or with `dry_run` would do.

    `images` counts per split and class what the source holds: `copied` of them, and `already_there`. `notes` say
    what was guessed or changed on the way.
    """

    description: str
    images: dict[str, dict[str, int]]
    copied: int
    already_there: int
    skipped: tuple[Skipped, ...]
    dry_run: bool
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def to_table(self) -> "RenderableType":
        """Images per class and split, and what was skipped and why, for the terminal."""
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self.description), counts_table(self.images), Text("\n".join(self._notes())))

    def _notes(self) -> list[str]:
        verb = "to copy" if self.dry_run else "copied"
        there = f", {self.already_there} already there" if self.already_there else ""
        return [f"{self.copied} {verb}{there}", *self.notes, *in_short(self.skipped)]


def in_short(skipped: Sequence[Skipped]) -> list[str]:
    """How many were skipped, for each reason, with an example."""
    counts = Counter(skip.reason for skip in skipped)
    # Backwards, so that the first of each reason is what stays.
    first = {skip.reason: skip.path for skip in reversed(skipped)}
    return [
        f"{count} skipped: {printable(reason)}, such as {printable(first[reason])}"
        for reason, count in counts.most_common()
    ]


def counts_table(images: dict[str, dict[str, int]]) -> "Table":
    """Images per class and split, for the terminal."""
    from rich.table import Table
    from rich.text import Text

    splits = [split for split in layout.SPLITS if split in images]
    table = Table("class", box=None, pad_edge=False)
    for split in splits:
        table.add_column(split, justify="right")
    for name in sorted({name for counts in images.values() for name in counts}):
        counts = [str(images[split].get(name, 0)) for split in splits]
        table.add_row(Text(printable(name)), *counts)
    return table


class Tally:
    """Counts while an import goes on."""

    def __init__(self, skipped: list[Skipped], notes: list[str]) -> None:
        self.skipped, self.notes = skipped, notes
        self.images: dict[str, dict[str, int]] = {}
        self.copied = self.already_there = 0

    def count(self, place: PurePosixPath, *, copied: bool) -> None:
        """One image of the source, at `split/class/name`."""
        counts = self.images.setdefault(place.parts[0], {})
        counts[place.parts[1]] = counts.get(place.parts[1], 0) + 1
        self.copied += copied
        self.already_there += not copied

    def refuse_loss(self, source: Path, expected: int = 0) -> None:
        """Nobody should have to read closely to learn that most of a delivery did not come.

        Args:
            expected: images that may still come.

        Raises:
            DataError: nothing came, or more was lost than came.
        """
        brought = self.copied + self.already_there + expected
        lost = sum(skip.lost for skip in self.skipped)
        if not brought:
            found = f": {'; '.join(in_short(self.skipped)[:_REASONS])}" if self.skipped else ""
            raise DataError(f"no images to import from {source}{found}")
        if lost > brought:
            reasons = "; ".join(in_short([skip for skip in self.skipped if skip.lost])[:_REASONS])
            raise DataError(
                f"{lost} images of {source} would be lost and only {brought} come: {reasons}; nothing was imported: "
                "mend that, or import what is good from a folder of its own"
            )

    def summary(self, description: str, *, dry_run: bool) -> ImportSummary:
        """What it came to."""
        counts = (self.images, self.copied, self.already_there)
        return ImportSummary(description, *counts, tuple(self.skipped), dry_run, tuple(self.notes))
