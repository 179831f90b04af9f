"""A decision about promotion: every number, rule and verdict, and the ways to read it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vggflow.promotion.evidence import Evidence

Number = float | int | str | bool | None
Severity = Literal["refuse", "warn"]
SIGNS = {"ok": "✓", "no": "✗", "but": "!"}


@dataclass(frozen=True)
class Check:
    """One rule and what it said.

    Attributes:
        rule: The name of the rule, such as `better` or `min_accuracy`.
        passed: Whether the rule lets the challenger pass.
        says: One sentence with the numbers that matter.
        numbers: What the rule computed and what it was compared with.
        severity: `refuse` keeps the champion where the rule does not pass, `warn` only says so.
    """

    rule: str
    passed: bool
    says: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    severity: Severity = "refuse"

    @property
    def mark(self) -> str:
        """`ok`, `no` where it refuses, `but` where it warns."""
        return "ok" if self.passed else {"refuse": "no", "warn": "but"}[self.severity]


@dataclass(frozen=True)
class Decision:
    """The checks that were made, the evidence and settings they looked at, and so the verdict.

    Attributes:
        checks: Every rule that was asked, passed or not.
        evidence: The numbers that went in.
        settings: The promotion settings that applied.
    """

    checks: tuple[Check, ...]
    evidence: Evidence
    settings: Mapping[str, Any]

    @property
    def promoted(self) -> bool:
        """Whether the challenger may become champion: no check refuses."""
        return not self.refusals

    @property
    def verdict(self) -> Literal["promote", "keep"]:
        """`promote`, or `keep` what is in use (nothing, if there is no champion)."""
        return "promote" if self.promoted else "keep"

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that did not pass and keep the champion."""
        return tuple(check for check in self.checks if check.mark == "no")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that did not pass and keep nothing."""
        return tuple(check for check in self.checks if check.mark == "but")

    @property
    def summary(self) -> str:
        """One line: the verdict and why, then the warnings."""
        warnings = "".join(f"; warning: {check.says}" for check in self.warnings)
        if self.refusals:
            return "keep: " + "; ".join(check.says for check in self.refusals) + warnings
        # The last check is the rule of the settings, which says the gain.
        return "promote: " + (self.checks[-1].says if self.evidence.champion else _FIRST) + warnings

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: verdict, summary, checks, evidence and settings."""
        return {
            "verdict": self.verdict,
            "summary": self.summary,
            "checks": [asdict(check) for check in self.checks],
            "evidence": self.evidence.to_dict(),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Decision":
        """What `to_dict` gave, also after a way through JSON."""
        checks = tuple(Check(**check) for check in content["checks"])
        return cls(checks, Evidence.from_dict(content["evidence"]), content["settings"])

    def to_json(self) -> str:
        """The same as text."""
        # NaN is no JSON: better an error here than a record that other programs can't read.
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The summary and a line per check, for a terminal or a log."""
        width = max((len(check.rule) for check in self.checks), default=0)
        lines = [f"{c.mark:<3} {c.rule:<{width}}  {c.says}" for c in self.checks]
        return "\n".join([self.summary, "", *lines]) + "\n"

    def to_markdown(self) -> str:
        """The summary and a table of the checks."""
        rows = [f"| {SIGNS[c.mark]} | `{c.rule}` | {_cell(c.says)} |" for c in self.checks]
        return "\n".join(
            [f"**{_cell(self.summary)}**", "", "| | rule | what it found |", "|---|---|---|", *rows, ""]
        )


def _cell(text: str) -> str:
    # Classes are called what their folders are called, which could end a cell or begin an HTML tag.
    return text.replace("|", "\\|").replace("<", "&lt;")


_FIRST = "the first champion, all floors hold"
