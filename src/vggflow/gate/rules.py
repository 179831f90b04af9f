"""The expectations of the data gate: what each is called, how bad it is, and what it asks of which column."""

from dataclasses import dataclass, replace
from string import Formatter
from typing import Any, Literal

import pandas as pd

from vggflow.settings import Expectation, ValidateSettings

Severity = Literal["critical", "warning", "note"]
Table = Literal["images", "classes"]


@dataclass(frozen=True)
class Rule:
    """An expectation: `column` is null, or where there is a minimum or maximum, between the two.

    Attributes:
        message: follows the number of files or folders: "3 files " + "that can't be decoded".
        reason: for one row, with its columns as fields: "{width}×{height} pixels"; by default the column's
        text.
        first: the column by whose values files are told, the least first; by default as the table has them.
    """

    name: Expectation
    table: Table
    severity: Severity
    message: str
    column: str
    reason: str = ""
    minimum: float | None = None
    maximum: float | None = None
    names_other: bool = False
    first: str = ""

    @property
    def is_range(self) -> bool:
        """Whether the column holds numbers with limits, not reasons."""
        return self.minimum is not None or self.maximum is not None

    def broken_rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows that do not meet the expectation, in the order in which they are told."""
        rows = table[self.broken_by(table)]
        return rows.sort_values(self.first, kind="stable") if self.first else rows

    def broken_by(self, table: pd.DataFrame) -> pd.Series:
        """True for each row that does not meet the expectation; a missing number meets it."""
        values = table[self.column]
        if not self.is_range:
            return values.notna()
        low = float("-inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        return values.notna() & ~values.between(low, high).fillna(True).astype(bool)

    @property
    def fields(self) -> list[str]:
        """The columns that the reason names."""
        return [name for _, name, _, _ in Formatter().parse(self._reason) if name]

    def reason_for(self, row: dict[str, Any]) -> str:
        """Why this row does not meet the expectation."""
        return self._reason.format_map(row)

    @property
    def _reason(self) -> str:
        return self.reason or f"{{{self.column}}}"


def rules(settings: ValidateSettings) -> tuple[Rule, ...]:
    """The expectations with these thresholds, in the order in which they are reported.

    `settings.severity` may turn each into a warning or a critical one, or switch it off.
    """
    chosen = []
    for rule in [*_image_rules(settings), *_class_rules(settings), *_quality_rules(settings)]:
        severity = settings.severity.get(rule.name, rule.severity)
        if severity != "off":
            chosen.append(replace(rule, severity=severity))
    return tuple(chosen)


def _image_rules(settings: ValidateSettings) -> list[Rule]:
    size = settings.min_image_size_px
    return [
        _told("links", "critical", "behind a link, which DVC stops at or replaces by a copy"),
        _told("unreadable", "critical", "that can't be decoded"),
        _copy("exact_duplicates", "critical", "with the same bytes as another of the same class and split"),
        _copy("leakage", "critical", "with the same bytes as one in another split"),
        _copy("near_leakage", "critical", "nearly the same as one in another split"),
        _copy("label_conflicts", "critical", "labelled differently from a copy"),
        Rule(
            "too_small",
            "images",
            "critical",
            f"smaller than {size} px",
            "shorter_side",
            f"{{width}}×{{height}} pixels, expected at least {size} on each side",
            minimum=size,
        ),
    ]


def _class_rules(settings: ValidateSettings) -> list[Rule]:
    few, imbalance, shift = settings.min_images_per_class, settings.max_imbalance, settings.max_label_shift
    kept = 1 - settings.max_shrinkage
    return [
        _told("missing_class", "critical", "without a readable image", "classes"),
        _told("vanished_class", "critical", "that the data compared with has and this lacks", "classes"),
        _told("different_classes", "critical", "of a class that train does not have", "classes"),
        _told(
            "case_collisions",
            "critical",
            "with names that are one name elsewhere, or look like it",
            "classes",
        ),
        _told("too_few_classes", "critical", "alone: there is nothing to tell apart", "classes"),
        Rule(
            "too_few_images",
            "classes",
            "critical",
            f"with fewer than {few} readable images",
            # Null for an empty class, which is a `missing_class` and told once.
            "images_if_any",
            f"{{images}} readable images, expected at least {few}",
            minimum=few,
        ),
        Rule(
            "imbalance",
            "classes",
            "warning",
            f"with less than 1/{imbalance:g} of the largest class",
            "part_of_largest",
            f"{{images}} images, expected at least 1/{imbalance:g} of the largest class",
            minimum=1 / imbalance,
        ),
        Rule(
            "label_shift",
            "classes",
            "warning",
            f"whose share of their split moved by more than {shift:.0%}",
            "shift",
            "its share moved by {shift:.1%}" + f", expected at most {shift:.0%}",
            maximum=shift,
        ),
        Rule(
            "shrunk",
            "classes",
            "warning",
            f"with less than {kept:.0%} of the images in the data compared with",
            "part_of_before",
            f"{{images}} images, {{images_before}} there, expected at least {kept:.0%} of them",
            minimum=kept,
        ),
    ]


def _quality_rules(settings: ValidateSettings) -> list[Rule]:
    aspect, size = settings.max_aspect_ratio, settings.max_size_ratio
    doubted = f"{100 * settings.max_label_suspects:g}%"
    return [
        _copy("near_duplicates", "warning", "nearly the same as another of the same class and split"),
        _told("relabelled", "warning", "of another class than the same bytes in the data compared with"),
        _copy("known_unlabelled", "warning", "to be predicted, with a labelled copy"),
        Rule(
            "odd_shapes",
            "images",
            "warning",
            f"more than {aspect:g} times as long as wide",
            "aspect_ratio",
            "{width}×{height} pixels",
            maximum=aspect,
        ),
        Rule(
            "odd_sizes",
            "images",
            "warning",
            f"more than {size:g} times larger or smaller than usual",
            "size_ratio",
            "{width}×{height} pixels",
            maximum=size,
        ),
        Rule(
            "label_suspects",
            "images",
            "warning",
            f"whose label is surely in doubt, more than {doubted} of those that the last audit saw",
            "label_suspects",
            first="label_suspects_rank",
        ),
        _told("doubtful", "warning", "that may be damaged"),
        _told("unused_bits", "warning", "nearly black, since 10 to 14 bits were stored in 16"),
        _measured("dark", "brightness", settings.min_brightness, "too dark"),
        _measured("blank", "contrast", settings.min_contrast, "of one colour"),
        _measured("blurred", "sharpness", settings.min_sharpness, "blurred"),
        _told("name_collisions", "warning", "with names that are one on Windows or macOS"),
        _told("extension_mismatch", "warning", "of another format than the name says"),
        _told("foreign_files", "warning", "of a kind that can't be read, left out"),
        _told("stray_files", "warning", "left out: no images in a class folder"),
        _told(
            "odd_metadata", "note", "with damaged metadata or some that can't be read; its pixels are whole"
        ),
    ]


def _told(name: Expectation, severity: Severity, message: str, table: Table = "images") -> Rule:
    return Rule(name, table, severity, message, name)


def _copy(name: Expectation, severity: Severity, message: str) -> Rule:
    return Rule(name, "images", severity, message, name, f"like {{{name}}}", names_other=True)


def _measured(name: Expectation, column: str, minimum: float, message: str) -> Rule:
    reason = f"{column} {{{column}:.1f}}, expected at least {minimum:g}"
    return Rule(name, "images", "warning", message, column, reason, minimum=minimum)
