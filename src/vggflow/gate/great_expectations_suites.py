"""The rules of the data gate as Great Expectations suites over the manifest, with Data Docs."""

import html
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from vggflow.errors import VggflowError
from vggflow.gate.rules import Rule
from vggflow.gate.verdict import Verdict
from vggflow.settings import Expectation

# Complete lists are copied several times over: half a minute for 100,000 blurred images.
_RESULT_FORMAT = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": 100,
    "unexpected_index_column_names": ["path"],
    "return_unexpected_index_query": False,
}
# What Great Expectations calls them.
_SEVERITIES = {"critical": "critical", "warning": "warning", "note": "info"}


def confirm(
    verdict: Verdict, tables: Mapping[str, pd.DataFrame], asked: Sequence[Rule], docs_folder: Path
) -> None:
    """Asks the same of Great Expectations and writes Data Docs to `docs_folder`, replacing what is there.

    Args:
        tables: see `gate.tables.tables`.

    Raises:
        VggflowError: Great Expectations counts other rows than the verdict names; its result holds examples only,
            so the rows are found without it, and pages and verdict must agree.
    """
    named = {problem.expectation: len(problem.paths) for problem in verdict.problems}
    for name, count in _run(asked, tables, docs_folder).items():
        expected = named.get(cast("Expectation", name), 0)
        if count != expected:
            raise VggflowError(f"{name}: Great Expectations counts {count} rows, the manifest {expected}")


def _run(asked: Sequence[Rule], tables: Mapping[str, pd.DataFrame], docs_folder: Path) -> dict[str, int]:
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
