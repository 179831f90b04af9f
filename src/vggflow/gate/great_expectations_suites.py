"""The rules of the data gate as Great Expectations suites: counts per class folder, faulty files; with Data Docs."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow.errors import VggflowError
from vggflow.gate.rules import Rule
from vggflow.gate.suites import COUNTS, FAULTY, FOLDERS, Suite, suites
from vggflow.gate.verdict import Verdict

# What Great Expectations calls them.
_SEVERITIES = {"critical": "critical", "warning": "warning", "note": "info"}


def confirm(
    verdict: Verdict, tables: Mapping[str, pd.DataFrame], asked: Sequence[Rule], docs_folder: Path
) -> None:
    """Asks the same of Great Expectations and writes Data Docs to `docs_folder`, replacing what is there.

    It sees the number of files that break each rule in each class folder, and the files that break any. All rows of a
    million images took 400 MiB more, as text that it copies.

    Args:
        tables: see `gate.tables.tables`.

    Raises:
        VggflowError: Great Expectations counts other files than the verdict names, which are found without it;
            pages and verdict must agree.
    """
    named = {problem.expectation: len(problem.paths) for problem in verdict.problems}
    wanted = suites(tables, asked)
    for suite, found in zip(wanted, _run(wanted, docs_folder), strict=True):
        for rule in suite.asked:
            # Of an empty table nothing is asked, so nothing is found.
            count, expected = found.get(rule.name, 0), named.get(rule.name, 0)
            if count != expected:
                raise VggflowError(
                    f"{rule.name}: Great Expectations counts {count} rows in {suite.name}, the manifest {expected}"
                )


def _run(wanted: Sequence[Suite], docs_folder: Path) -> list[dict[str, int]]:
    """Runs all suites; for each of them, by rule, how many files or class folders break it."""
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
        counts = [_run_suite(context, suite) for suite in wanted]
        # By name: every context has a second site of its own, in a temporary folder.
        context.build_data_docs(site_names=["gate"])
        _drop_unused(Path(beside) / "site")
        # A folder that is not empty can't be renamed over.
        if docs_folder.exists():
            shutil.rmtree(docs_folder)
        (Path(beside) / "site").rename(docs_folder)
    return counts


def _run_suite(context: Any, suite: Suite) -> dict[str, int]:
    import great_expectations as gx

    source = context.data_sources.add_pandas(suite.name)
    batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all")
    # All at once: added one by one, each is the occasion to write the whole suite again.
    added = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=_expectations(suite)))
    definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=added)
    context.validation_definitions.add(definition)
    checkpoint = gx.Checkpoint(
        name=suite.name, validation_definitions=[definition], result_format=_result_format(suite)
    )
    run = context.checkpoints.add(checkpoint).run({"dataframe": suite.table})
    return {
        result.expectation_config.meta["name"]: suite.broken(result.result)
        for suite_result in run.run_results.values()
        for result in suite_result.results
        if "name" in result.expectation_config.meta
    }


def _result_format(suite: Suite) -> dict[str, Any]:
    # Without a column each row is named by the index alone: with one, a million faulty rows took 24 s instead of 6.
    named = {"unexpected_index_column_names": [FOLDERS]} if suite.name == COUNTS else {}
    shown = {"partial_unexpected_count": 100, "return_unexpected_index_query": False}
    # Complete, since pages name files and folders then only.
    return {"result_format": "COMPLETE"} | shown | named


def _expectations(suite: Suite) -> list[Any]:
    """What is asked; those with the name of a rule in `meta` tell how many break it."""
    import great_expectations.expectations as gxe

    if suite.name != FAULTY:
        return [each for rule in suite.asked for each in _of_rule(suite, rule)]
    told = "no file that breaks a rule; Index is the path of a file"
    none = gxe.ExpectTableRowCountToEqual(value=0, severity="info", description=told)
    # Shares of no rows are no numbers.
    return [none, *(each for rule in suite.asked if len(suite.table) for each in _of_rule(suite, rule))]


def _of_rule(suite: Suite, rule: Rule) -> list[Any]:
    import great_expectations.expectations as gxe

    severity, named = _SEVERITIES[rule.severity], {"name": rule.name}
    if suite.name == COUNTS:
        none: dict[str, Any] = {"column": rule.name, "min_value": 0, "max_value": 0, "severity": severity}
        each = "expected 0 in each class folder"
        return [
            gxe.ExpectColumnSumToBeBetween(**none, meta=named, description=suite.told(rule)),
            gxe.ExpectColumnValuesToBeBetween(**none, description=each),
        ]
    common = {"column": rule.column, "severity": severity, "meta": named, "description": suite.told(rule)}
    if rule.is_range:
        limits = {"min_value": rule.minimum, "max_value": rule.maximum}
        return [gxe.ExpectColumnValuesToBeBetween(**limits, **common)]
    return [gxe.ExpectColumnValuesToBeNull(**common)]


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
