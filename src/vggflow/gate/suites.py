"""What Great Expectations gets to see: of files how many of each class folder break a rule, and those that do."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vggflow.gate import parts
from vggflow.gate.rules import Rule

# What the pages are called.
COUNTS, FAULTY, CLASSES = "files_per_class", "faulty_files", "classes"
# The column that says where a number of files was counted; its name is what the pages head it with.
FOLDERS = "class_folders_with_so_many"


@dataclass(frozen=True)
class Suite:
    """A table as Great Expectations gets it, and the rules that it is held to.

    In `files_per_class` a value is a number of files that break the rule of its column; elsewhere each row is one.
    """

    name: str
    table: pd.DataFrame
    asked: Sequence[Rule]

    def broken(self, result: Mapping[str, Any]) -> int:
        """How many files or class folders break a rule."""
        # Of numbers it is their sum: lists of single values end at 200, complete or not.
        return int(result["observed_value"] if self.name == COUNTS else result["unexpected_count"])

    def told(self, rule: Rule) -> str:
        """What the pages say is expected."""
        if self.name != COUNTS:
            return f"{rule.name}: no {'class folder' if self.name == CLASSES else 'file'} {rule.message}"
        found, files = int(self.table[rule.name].sum()), int(self.table["files"].sum())
        share = f" ({found / files:.2%})" if found else ""
        return f"{found:,} of {files:,} files{share} {rule.message}; expected 0"


def suites(tables: Mapping[str, pd.DataFrame], asked: Sequence[Rule]) -> list[Suite]:
    """All of them.

    Args:
        tables: see `gate.tables.tables`.
    """
    of_files = [rule for rule in asked if rule.table == "images"]
    of_classes = [rule for rule in asked if rule.table == "classes"]
    counted = parts.count(tables["images"], of_files)
    return [
        Suite(COUNTS, _with_folders(counted.parts), of_files),
        Suite(FAULTY, _plain(counted.faulty, of_files), of_files),
        Suite(CLASSES, _plain(tables["classes"], of_classes), of_classes),
    ]


def _with_folders(counts: pd.DataFrame) -> pd.DataFrame:
    folders = [
        f"{html.escape(path)} ({files:,} files)"
        for path, files in counts[["path", "files"]].itertuples(index=False)
    ]
    return counts.assign(**{FOLDERS: pd.Series(folders, dtype=object)})


def _plain(table: pd.DataFrame, asked: Sequence[Rule]) -> pd.DataFrame:
    """Only what is asked for, in types that Great Expectations knows."""
    columns = {
        rule.column: table[rule.column].astype("float64") if rule.is_range else _escaped(table[rule.column])
        for rule in asked
    }
    # The one way to name rows of values that must be null; with a name of its own it would be shown as a dictionary.
    return pd.DataFrame({"path": _escaped(table["path"]), **columns}).set_index("path").rename_axis(None)


def _escaped(texts: pd.Series) -> pd.Series:
    """Data Docs put values into their pages as they are, and a file's name may be HTML."""
    return texts.astype(object).map(html.escape, na_action="ignore")
