"""The data gate: a Great Expectations suite over the manifest, and its verdict."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from vggflow.data import findings
from vggflow.data.layout import ClassFolder
from vggflow.settings import ValidateSettings

Severity = Literal["critical", "warning"]

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": ["path"],
    "return_unexpected_index_query": False,
}


@dataclass(frozen=True)
class Problem:
    """An expectation that is not met: by which files or folders, and why, in the same order."""

    expectation: str
    severity: Severity
    message: str
    paths: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether training may read this data: it may, unless a critical expectation is not met."""

    passed: bool
    problems: tuple[Problem, ...]
    expectations: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def message(self) -> str:
        """One line for people: what was found, the worst first."""
        if not self.problems:
            return f"data passed all {len(self.expectations)} expectations"
        critical = [problem.message for problem in self.problems if problem.severity == "critical"]
        if not critical:
            return f"data passed with {len(self.problems)} warnings"
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        return f"data refused: {critical[0]}{more}"


@dataclass(frozen=True)
class _Rule:
    name: str
    table: Literal["images", "classes"]
    severity: Severity
    message: str
    expectation: Callable[[Any], Any]
    reason: Callable[[Any], str]


def check(
    manifest: pd.DataFrame,
    settings: ValidateSettings,
    docs_folder: Path,
    folders: Sequence[ClassFolder] | None = None,
) -> Verdict:
    """Checks the manifest and writes Data Docs to `docs_folder`, replacing it.

    Args:
        folders: the class folders that the layout saw, so that empty ones are noticed; without them only
            folders that hold a file are known.
    """
    known = tuple(folders) if folders is not None else _folders_with_files(manifest)
    tables = {"images": findings.image_table(manifest), "classes": findings.class_table(manifest, known)}
    rules = _rules(settings, tables["classes"])
    results = _run(rules, tables, docs_folder)
    problems = [
        problem for rule in rules if (problem := _problem(rule, results[rule.name], tables[rule.table]))
    ]
    problems.sort(key=lambda problem: problem.severity)
    passed = all(problem.severity != "critical" for problem in problems)
    return Verdict(passed, tuple(problems), tuple(rule.name for rule in rules))


def _rules(settings: ValidateSettings, classes: pd.DataFrame) -> list[_Rule]:
    from great_expectations.expectations.row_conditions import Column

    trained = sorted(classes.loc[classes["split"] == "train", "class_name"])
    size, count = settings.min_image_size_px, settings.min_images_per_class
    return [
        _Rule(
            "unreadable",
            "images",
            "critical",
            "can't be decoded",
            lambda gxe: gxe.ExpectColumnValuesToBeNull(column="error"),
            lambda row: str(row.error),
        ),
        _Rule(
            "missing_class",
            "classes",
            "critical",
            "without a readable image",
            lambda gxe: gxe.ExpectColumnValuesToBeBetween(column="images", min_value=1),
            lambda row: f"no readable image of {row.class_name} in {row.split}",
        ),
        _Rule(
            "different_classes",
            "classes",
            "critical",
            "of a class that train does not have",
            lambda gxe: gxe.ExpectColumnValuesToBeInSet(column="class_name", value_set=trained),
            lambda row: _unknown_class(row.class_name, trained),
        ),
        _Rule(
            "too_few_classes",
            "classes",
            "critical",
            "fewer than 2 classes",
            lambda gxe: gxe.ExpectColumnUniqueValueCountToBeBetween(column="class_name", min_value=2),
            lambda _: "",
        ),
        _Rule(
            "exact_duplicates",
            "images",
            "critical",
            "with the same bytes as another of the same split",
            lambda gxe: gxe.ExpectColumnValuesToBeNull(column="exact_duplicates"),
            lambda row: str(row.exact_duplicates),
        ),
        _Rule(
            "leakage",
            "images",
            "critical",
            "with the same bytes as another of another split",
            lambda gxe: gxe.ExpectColumnValuesToBeNull(column="leakage"),
            lambda row: str(row.leakage),
        ),
        _Rule(
            "too_few_images",
            "classes",
            "critical",
            f"with fewer than {count} readable images",
            lambda gxe: gxe.ExpectColumnValuesToBeBetween(
                column="images", min_value=count, row_condition=Column("images") > 0
            ),
            lambda row: f"{row.images} readable images, expected at least {count}",
        ),
        _Rule(
            "too_small",
            "images",
            "critical",
            f"smaller than {size} px",
            lambda gxe: gxe.ExpectColumnValuesToBeBetween(column="shorter_side", min_value=size),
            lambda row: f"{row.width}×{row.height} pixels, expected at least {size} on each side",
        ),
    ]


def _unknown_class(name: str, trained: Sequence[str]) -> str:
    same = [known for known in trained if known.casefold() == name.casefold()]
    hint = f", only {same[0]}, which differs in case" if same else ""
    return f"train has no class {name}{hint}"


def _run(rules: Sequence[_Rule], tables: dict[str, pd.DataFrame], docs_folder: Path) -> dict[str, Any]:
    """Runs all rules in one checkpoint; the result of each under its name."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("manifest")
    results: dict[str, Any] = {}
    docs_folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=docs_folder.parent) as beside:
        context.add_data_docs_site("gate", _docs_site(Path(beside) / "site"))
        for name, table in tables.items():
            batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
            suite = context.suites.add(gx.ExpectationSuite(name=name))
            for rule in rules:
                if rule.table == name:
                    expectation = rule.expectation(gxe)
                    expectation.severity, expectation.meta = rule.severity, {"name": rule.name}
                    suite.add_expectation(expectation)
            definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
            context.validation_definitions.add(definition)
            checkpoint = gx.Checkpoint(
                name=name, validation_definitions=[definition], result_format=_RESULT_FORMAT
            )
            for run in context.checkpoints.add(checkpoint).run({"dataframe": table}).run_results.values():
                results |= {result.expectation_config.meta["name"]: result for result in run.results}
        context.build_data_docs()
        if docs_folder.exists():
            shutil.rmtree(docs_folder)
        (Path(beside) / "site").rename(docs_folder)
    return results


def _docs_site(folder: Path) -> dict[str, Any]:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}
    return {
        "class_name": "SiteBuilder",
        "store_backend": store,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _problem(rule: _Rule, result: Any, table: pd.DataFrame) -> Problem | None:
    if result.success:
        return None
    paths = [entry["path"] for entry in result.result.get("unexpected_index_list") or ()]
    rows = table.set_index("path").loc[paths]
    reasons = tuple(rule.reason(row) for row in rows.itertuples())
    return Problem(rule.name, rule.severity, _message(rule, paths, reasons), tuple(paths), reasons)


def _message(rule: _Rule, paths: Sequence[str], reasons: Sequence[str]) -> str:
    if not paths:
        return rule.message
    thing = "class folder" if rule.table == "classes" else "file"
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    things = f"1 {thing}" if len(paths) == 1 else f"{len(paths)} {thing}s"
    return f"{things} {rule.message}: {paths[0]} ({reasons[0]}){more}"


def _folders_with_files(manifest: pd.DataFrame) -> tuple[ClassFolder, ...]:
    placed = manifest[manifest["class_name"] != ""][["split", "class_name"]].drop_duplicates()
    return tuple(ClassFolder(split, name) for split, name in placed.itertuples(index=False))
