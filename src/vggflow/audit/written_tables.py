"""Tables of suspects and of suggestions, with an empty column that a person fills in."""

import csv
import os
from pathlib import Path

import pandas as pd

from vggflow import files
from vggflow.errors import UsageError

DECISION, LABEL = "decision", "label"
SUSPECTS = (DECISION, "path", "class_name", "suggested", "probability", "suspicion", "sha256")
SUGGESTIONS = (LABEL, "image", "guess", "probability", "margin", "sha256")
# Of them a program for tables would take `=1+1` for a formula; nobody reads them back.
SHOWN_ONLY = ("class_name", "suggested", "guess")
DIGITS = 4


def refuse_unwritable(path: Path, filled_in: str) -> None:
    """Before the work: a table that nobody can write is of no use, and what a person wrote is not overwritten.

    Raises:
        UsageError: it is a folder, lies in none that can be written to, or its column `filled_in` is not empty.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the CSV to write")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"can't write {path}: name a CSV in a folder that can be written to")
    if path.exists() and _is_filled_in(path, filled_in):
        raise UsageError(
            f"{path} is there, with something in its column {filled_in}, or is another file: name another CSV, or "
            "remove it"
        )


def _is_filled_in(path: Path, column: str) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return column not in (reader.fieldnames or ()) or any(
                (row.get(column) or "").strip() for row in reader
            )
    except (OSError, UnicodeDecodeError, csv.Error):
        return True  # another file, whose owner may want it


def write_suspects(suspects: pd.DataFrame, path: Path) -> None:
    """Writes suspects with an empty column `decision`, whole or not at all."""
    _write(suspects.assign(**{DECISION: ""})[list(SUSPECTS)], path)


def write_suggestions(suggestions: pd.DataFrame, path: Path) -> None:
    """Writes suggestions with an empty column `label`, whole or not at all."""
    _write(suggestions.assign(**{LABEL: ""})[list(SUGGESTIONS)], path)


def _write(table: pd.DataFrame, path: Path) -> None:
    shown = {name: table[name].map(_as_text) for name in SHOWN_ONLY if name in table}
    content = table.assign(**shown).round(DIGITS).to_csv(index=False, lineterminator="\n")
    # With a mark by which Excel, too, takes it for UTF-8.
    files.write_text(path, "\ufeff" + content)


def _as_text(name: str) -> str:
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
