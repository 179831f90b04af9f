"""The CSV of suspects, into which a person writes decisions."""

import csv
import os
from pathlib import Path

import pandas as pd

from vggflow import files
from vggflow.errors import UsageError

COLUMNS = ("decision", "path", "class_name", "suggested", "probability", "suspicion", "sha256")
DIGITS = 4


def refuse_unwritable(path: Path) -> None:
    """Before the work: a table that nobody can write is of no use.

    Raises:
        UsageError: it is a folder, or lies in none that can be written to, or is there and has decisions in it.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the CSV to write")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"can't write {path}: name a CSV in a folder that can be written to")
    if path.exists() and _decided(path):
        raise UsageError(f"{path} holds decisions: name another CSV, or remove it")


def _decided(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return any((row.get("decision") or "").strip() for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return True  # another file, whose owner may want it


def _as_text(name: str) -> str:
    """A class that a program for tables would take for a formula is told as text; nobody reads it back."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def write(suspects: pd.DataFrame, path: Path) -> None:
    """Writes the suspects with an empty column `decision`, whole or not at all; UTF-8 that Excel reads too."""
    names = {name: suspects[name].map(_as_text) for name in ("class_name", "suggested")}
    made = suspects.assign(decision="", **names)[list(COLUMNS)]
    files.write_text(path, "\ufeff" + made.round(DIGITS).to_csv(index=False, lineterminator="\n"))
