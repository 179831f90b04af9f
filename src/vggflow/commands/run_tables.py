"""Two trainings side by side, in the terminal: settings, data, code, what came of it, and what to think of it."""

import time
from typing import TYPE_CHECKING

from rich.markup import escape

from vggflow.commands import run_comparison
from vggflow.console import age, out, say, table
from vggflow.credentials import hide
from vggflow.data.names import printable

if TYPE_CHECKING:
    from vggflow.commands.run_comparison import RunComparison
    from vggflow.data.changes import Changes
    from vggflow.report.run_differences import Part
    from vggflow.report.run_outcomes import Measure, Outcome, Paired
    from vggflow.tracking.past_runs import PastRun

# What a person reads: the rest is in the JSON.
MOST_FACTS, MOST_CLASSES = 30, 10
NAMES = {
    "data.hash": "DVC hash",
    "data.files": "files in data/",
    "train_images": "images of train",
    "valid_images": "images of valid",
    "sha256.start_weights": "start weights",
    "git.commit": "git commit",
    "git.dirty": "uncommitted changes",
    "sha256.vggflow": "vggflow's source",
}
DIGESTS = ("data.hash", "git.commit", "sha256.")


def show(found: "RunComparison") -> None:
    """Prints all of it, and one sentence at the end."""
    for name, run in (("A", found.first), ("B", found.second)):
        _fold(f"{name}  {_titled(run)}")
    for part in found.made.parts:
        _show_part(part)
        if part.name == "data" and found.images:
            _show_images(found.images)
    _show_outcomes(*found.outcomes)
    _fold(_paired(found.paired))
    _fold("")
    _fold(found.verdict)


def _titled(run: "PastRun") -> str:
    parts = [run.short, f"{age(time.time() - run.started_ms / 1000)} ago", run.status.lower()]
    parts += [f"{run.epochs} epochs"] if run.epochs else []
    commit, data = run.tags.get("git.commit", ""), run.tags.get("data.hash", "")
    parts += [f"commit {commit[:7]}"] if commit else []
    parts += [f"data {data[:6]}"] if data else []
    return ", ".join([*parts, *filter(None, [run_comparison.became(run)])])


def _show_part(part: "Part") -> None:
    _fold("")
    shown = part.differences[:MOST_FACTS]
    if shown:
        rows = [
            [_name(each.name), _cell(each.name, each.first), _cell(each.name, each.second)] for each in shown
        ]
        out.print(table("", [part.name, "A", "B"], rows))
        _say_more(len(part.differences) - len(shown))
    if not part.unrecorded and not part.differs:
        _fold(f"{part.name}: the same{' but for the commit' if shown else ''}")
    if part.unrecorded:
        sides = " and ".join(part.unrecorded)
        why = "an older vggflow, a rebuilt run, or one that ended at once"
        _fold(f"{part.name}: not fully recorded of {sides} ({why})")


def _name(name: str) -> str:
    return escape(NAMES.get(name, name.removeprefix("package.")))


def _cell(name: str, value: str | None) -> str:
    if value is None:
        return "–"
    return value[:12] if name.startswith(DIGESTS) else escape(value)


def _show_images(found: "Changes") -> None:
    _fold(f"images: {found.message}")
    changed = [
        (split, name, *counts)
        for split, classes in found.counts.items()
        for name, counts in classes.items()
        if counts[0] != counts[1]
    ]
    changed.sort(key=lambda row: -abs(row[3] - row[2]))
    rows = [
        [_plain(f"{split}/{name}"), str(before), str(now)]
        for split, name, before, now in changed[:MOST_CLASSES]
    ]
    if rows:
        out.print(table("", ["images that changed in number", "A", "B"], rows))
        _say_more(len(changed) - len(rows))


def _show_outcomes(first: "Outcome", second: "Outcome") -> None:
    from vggflow.report import run_outcomes

    _fold("")
    rows = [_outcome(row) for row in run_outcomes.measures(first, second)]
    classes = run_outcomes.recalls(first, second)
    rows += [_outcome(row, "recall of ") for row in classes[:MOST_CLASSES]]
    if not rows:
        say("what came of it: nothing was measured")
        return
    out.print(table("", ["what came of it, 95 %", "A", "B", "change"], rows))
    _say_more(len(classes) - MOST_CLASSES)


def _outcome(row: "Measure", before: str = "") -> list[str]:
    from vggflow.report.run_verdict import signed_points, written

    change = "–"
    if row.change is not None:
        change = signed_points(row.change) if row.is_share else f"{row.change:+.3f}".replace("-", "−")
    values = [written(value, is_share=row.is_share) for value in (row.first, row.second)]
    return [_plain(f"{before}{row.name}"), *values, change]


def _plain(name: str) -> str:
    """A class may be called anything, also as rich calls its colours."""
    return escape(printable(name))


def _paired(paired: "Paired | str") -> str:
    from vggflow.report.run_verdict import p_value

    if isinstance(paired, str):
        return f"not paired: {paired}"
    alone = f"A alone is right on {paired.only_first}, B alone on {paired.only_second}"
    said = [f"{paired.images:,} images in common: {alone} (McNemar's p {p_value(paired.p)})"]
    if any(paired.not_in_common):
        said.append(f"images of one alone: {paired.not_in_common[0]} of A, {paired.not_in_common[1]} of B")
    if paired.left_out:
        said.append(f"left out, since A or B had learned from them: {paired.left_out}")
    return "\n".join(said)


def _fold(text: str) -> None:
    """Lines that are folded between words, in a terminal."""
    out.print(hide(text), markup=False)


def _say_more(count: int) -> None:
    if count > 0:
        say(f"… and {count} more: --json has all")
