"""What the data gate says: whether training may read the data, and what is wrong with which files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from vggflow.data.names import printable
from vggflow.gate.rules import Rule, Severity

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 3
NO_NOTES: Mapping[str, str] = {}
_ORDER = ("critical", "warning", "note")


@dataclass(frozen=True)
class Problem:
    """An expectation that is not met: by which files or class folders, and why, in the same order.

    `summary` tells how many, `message` also names the first. Where they are copies, `others` are what they
    are copies of; else it is empty.
    """

    expectation: str
    severity: Severity
    summary: str
    message: str
    paths: tuple[str, ...]
    reasons: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether training may read this data: it may, unless a critical expectation is not met.

    `problems` come with the critical ones first; `expectations` are the names of all that were asked;
    `excluded` counts the files that are left out, by the kind named in `validate.exclude`. `not_compared` counts
    the pairs of look-alikes that were too many to be compared: copies may be among them. `notes` say, by expectation,
    why one was not checked, or on how much of the data.
    """

    passed: bool
    problems: tuple[Problem, ...]
    expectations: tuple[str, ...]
    excluded: dict[str, int]
    not_compared: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def message(self) -> str:
        """One line for people: what was found, the worst first."""
        left = f"; {self.not_compared} pairs of look-alikes were not compared" if self.not_compared else ""
        return self._found + left

    @property
    def _found(self) -> str:
        counts = Counter(problem.severity for problem in self.problems)
        if self.passed:
            told = [_plural(counts[kind], kind) for kind in ("warning", "note") if counts[kind]]
            beside = f" with {' and '.join(told)}" if told else ""
            return f"data passed {_plural(len(self.expectations), 'expectation')}{beside}"
        others = counts["critical"] - 1
        return f"data refused: {self.problems[0].message}" + (f"; and {others} more kinds" if others else "")

    def to_table(self) -> "Table":
        """The problems with their first few files, for the terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table("severity", "expectation", "files", "such as", box=None, pad_edge=False)
        for problem in self.problems:
            examples = [
                f"{printable(path)}: {printable(reason)}"
                for path, reason in zip(problem.paths[:SHOWN], problem.reasons, strict=False)
            ]
            cells = (problem.severity, problem.expectation, str(len(problem.paths)), "\n".join(examples))
            # Rich would take `[…]` in the name of a file for its own marks.
            table.add_row(*map(escape, cells))
        return table


def decide(
    manifest: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    asked: Sequence[Rule],
    not_compared: int = 0,
    notes: Mapping[str, str] = NO_NOTES,
) -> Verdict:
    """Finds the rows that break each rule; see `gate.tables.tables` for the tables of a manifest."""
    found = [(rule, rule.broken_rows(tables[rule.table])) for rule in asked]
    problems = [_problem(rule, rows) for rule, rows in found if len(rows)]
    # The sort is stable: within a severity problems stay in the order of the rules.
    problems.sort(key=lambda problem: _ORDER.index(problem.severity))
    passed = not any(problem.severity == "critical" for problem in problems)
    excluded = {str(kind): int(count) for kind, count in manifest["excluded"].value_counts().items()}
    names = tuple(rule.name for rule in asked)
    return Verdict(passed, tuple(problems), names, excluded, not_compared, dict(notes))


def _problem(rule: Rule, rows: pd.DataFrame) -> Problem:
    paths = tuple(rows["path"].tolist())
    fields = rows[rule.fields].to_dict("records")
    reasons = tuple(rule.reason_for(row) for row in cast("list[dict[str, Any]]", fields))
    others = tuple(rows[rule.column].tolist()) if rule.names_other else ()
    things = _plural(len(paths), "class folder" if rule.table == "classes" else "file")
    example = f"{printable(paths[0])} ({printable(reasons[0])})"
    summary = f"{things} {rule.message}"
    message = f"{rule.name}: {summary}, such as {example}"
    return Problem(rule.name, rule.severity, summary, message, paths, reasons, others)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
