"""The rules of the data gate as Great Expectations suites over the manifest, with Data Docs."""

import html
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow.data.layout import ClassFolder
from vggflow.errors import VggflowError
from vggflow.gate import tables as findings
from vggflow.gate.rules import Rule, rules
from vggflow.gate.verdict import Problem, Verdict, verdict
from vggflow.settings import ValidateSettings

__all__ = ["Problem", "Verdict", "check"]

# Complete lists are copied several times over: half a minute for 100,000 blurred images.
_RESULT_FORMAT = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": 100,
    "unexpected_index_column_names": ["path"],
    "return_unexpected_index_query": False,
}
# What Great Expectations calls them.
_SEVERITIES = {"critical": "critical", "warning": "warning", "note": "info"}


def check(
    manifest: pd.DataFrame,
    settings: ValidateSettings,
    docs_folder: Path,
    folders: Sequence[ClassFolder] | None = None,
    reference: pd.DataFrame | None = None,
) -> Verdict:
    """Checks the manifest and writes Data Docs to `docs_folder`, replacing what is there.

    Args:
        folders: the class folders that the layout saw, so that empty ones are noticed; without them only
            folders that hold a file are known.
        reference: the manifest whose classes and labels are compared with, such as the champion's.
    """
    known = tuple(folders) if folders is not None else _folders_with_files(manifest)
    tables = {
        "images": findings.image_table(manifest, reference),
        "classes": findings.class_table(manifest, known, reference),
    }
    asked = rules(settings)
    counts = _run(asked, tables, docs_folder)
    found = [(rule, _broken(rule, tables[rule.table], counts[rule.name])) for rule in asked]
    excluded = {str(kind): int(count) for kind, count in manifest["excluded"].value_counts().items()}
    return verdict(found, excluded)


def _broken(rule: Rule, table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The rows that Great Expectations counted."""
    rows = table[rule.broken_by(table)]
    # Its result holds examples only, so rows are found once more; Data Docs and verdict must agree.
    if len(rows) != count:
        raise VggflowError(f"{rule.name}: Great Expectations counts {count} rows, the manifest {len(rows)}")
    return rows


def _run(asked: Sequence[Rule], tables: dict[str, pd.DataFrame], docs_folder: Path) -> dict[str, int]:
    """Runs all rules; how many rows break each of them."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Ephemeral: the kind that keeps its files makes a folder `gx` for them.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    docs_folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that the rename at the end stays within one file system.
    with tempfile.TemporaryDirectory(dir=docs_folder.parent, prefix=".data_docs-") as beside:
        context.add_data_docs_site("gate", _docs_site(Path(beside) / "site"))
        counts: dict[str, int] = {}
        for name, table in tables.items():
            counts |= _run_suite(context, name, table, [rule for rule in asked if rule.table == name])
        # By name: every context has a second site of its own, in a temporary folder.
        context.build_data_docs(site_names=["gate"])
        _drop_unused(Path(beside) / "site")
        # A folder that is not empty can't be renamed over.
        if docs_folder.exists():
            shutil.rmtree(docs_folder)
        (Path(beside) / "site").rename(docs_folder)
    return counts


def _run_suite(context: Any, name: str, table: pd.DataFrame, asked: Sequence[Rule]) -> dict[str, int]:
    import great_expectations as gx

    source = context.data_sources.add_pandas(name)
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    # All at once: added one by one, each is the occasion to write the whole suite again.
    suite = context.suites.add(
        gx.ExpectationSuite(name=name, expectations=[_expectation(rule) for rule in asked])
    )
    definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
    context.validation_definitions.add(definition)
    checkpoint = gx.Checkpoint(name=name, validation_definitions=[definition], result_format=_RESULT_FORMAT)
    run = context.checkpoints.add(checkpoint).run({"dataframe": _plain(table, asked)})
    return {
        result.expectation_config.meta["name"]: int(result.result["unexpected_count"])
        for suite_result in run.run_results.values()
        for result in suite_result.results
    }


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as gxe

    common = {"column": rule.column, "severity": _SEVERITIES[rule.severity], "meta": {"name": rule.name}}
    if rule.is_range:
        return gxe.ExpectColumnValuesToBeBetween(min_value=rule.minimum, max_value=rule.maximum, **common)
    return gxe.ExpectColumnValuesToBeNull(**common)


def _plain(table: pd.DataFrame, asked: Sequence[Rule]) -> pd.DataFrame:
    """Only what is asked for, in types that Great Expectations knows."""
    columns = {
        rule.column: table[rule.column].astype("float64") if rule.is_range else _escaped(table[rule.column])
        for rule in asked
    }
    return pd.DataFrame({"path": _escaped(table["path"]), **columns})


def _escaped(texts: pd.Series) -> pd.Series:
    """Data Docs put values into their pages as they are, and a file's name may be HTML."""
    return texts.astype(object).map(html.escape, na_action="ignore")


def _drop_unused(site: Path) -> None:
    """Every site brings 4 MB of pictures, fonts and styles that no page names, and every run keeps a copy."""
    for file in (site / "static").rglob("*"):
        if file.is_file() and file.name != "favicon.ico":
            file.unlink()


def _docs_site(folder: Path) -> dict[str, Any]:
    # Great Expectations takes `$name` for a variable, in a path too.
    place = str(folder.resolve()).replace("$", r"\$")
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": place}
    return {
        "class_name": "SiteBuilder",
        "store_backend": store,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _folders_with_files(manifest: pd.DataFrame) -> tuple[ClassFolder, ...]:
    placed = manifest[manifest["kind"].isin(["image", "link"])][["split", "class_name"]].drop_duplicates()
    return tuple(ClassFolder(split, name) for split, name in placed.itertuples(index=False))
