"""What a person sees while something takes long: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vggflow.credentials import hide
from vggflow.environment import PROGRESS
from vggflow.files import write_json

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_NOTES = 1.0

# Wider than any row: what reads a pipe or a file takes a row for a line, and folds nothing back.
COLUMNS_OF_A_FILE = 100_000


class Stream(Console):
    """A console that folds at the width of a terminal, and nowhere else: not at 80, not at `COLUMNS`."""

    @property  # type: ignore[misc]  # nobody sets it here
    def size(self) -> ConsoleDimensions:
        """Columns and rows of the terminal; without one, as many columns as a row needs."""
        found = super().size
        return found if self.file.isatty() else ConsoleDimensions(COLUMNS_OF_A_FILE, found.height)


out = Stream(highlight=False, soft_wrap=False)
err = Stream(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Moves a bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tells how far it is; `note` says what else is worth seeing."""


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A bar for work of known length, on stderr; where stderr is no terminal, a line every ten seconds.

    Whoever started this process may want to show it too, and names a file for it in `VGGFLOW_PROGRESS`.
    """
    file = os.environ.get(PROGRESS)
    with _seen(what) as advance:
        yield _noted(what, Path(file), advance) if file else advance


@contextmanager
def _seen(what: str) -> Iterator[Advance]:
    if not err.is_terminal:
        yield _lines(what)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A table that fits into 80 columns as long as its cells do; numbers to the right.

    Where output is no terminal, every row is one line.
    """
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    made.show_header = any(columns)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        made.add_column(
            name,
            justify="right" if numeric else "left",
            header_style="dim",
            overflow="fold",  # a name that is cut short can be neither read nor copied
        )
    for row in rows:
        made.add_row(*(hide(cell if out.file.isatty() else " ".join(cell.split("\n"))) for cell in row))
    return made


def local_time(seconds: float) -> str:
    """Seconds since 1970 as this machine's `2026-11-21 02:10`."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def age(seconds: float) -> str:
    """`4 min`, `7 h` or `12 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds / 60))} min"


def counted(count: int, name: str, several: str = "") -> str:
    """A number with what is counted: `1 shard`, `1,200 shards`, `2 copies`."""
    return f"{count:,} {name if count == 1 else several or f'{name}s'}"


def say(line: str) -> None:
    """One line on stdout."""
    # `markup=False`: brackets in a path or a message are no colours.
    out.print(hide(line), markup=False, soft_wrap=True)


def tell(line: str) -> None:
    """One line on stderr: what is going on, not the result."""
    err.print(hide(line), markup=False)


def _lines(what: str) -> Advance:
    last = time.monotonic()

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{what} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201

    return advance


def _noted(what: str, file: Path, shown: Advance) -> Advance:
    """Also writes how far it is into a file, once a second, whole or not at all."""
    last = 0.0

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        shown(done, total, note)
        # The end is always told: the last step may come within the second.
        if time.monotonic() - last >= SECONDS_BETWEEN_NOTES or done >= total:
            last = time.monotonic()
            with suppress(OSError):  # a full disk is for the work itself to report
                write_json(file, {"what": what, "done": done, "total": total, "note": note})

    return advance


def _is_number(cell: str) -> bool:
    # `12.5 %`, `1,024`, `0:42` and a dash for nothing count as numbers.
    return cell.strip(" %+-–").replace(".", "", 1).replace(",", "").replace(
        ":", ""
    ).isdigit() or not cell.strip(" –")
