"""`vggflow lineage`: where a version came from."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from vggflow.commands import options
from vggflow.console import out, table

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version

# How the tags of a version are grouped for people: heading → beginnings of the tags' names.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "promotion": ("promotion.", "rollback.", "release."),
    "evaluation": ("accuracy", "log_loss", "evaluated_on", "evaluation."),
    "training": ("trained_by", "flow_run_id", "sha256.model", "sha256.start_weights"),
    "data": ("data.", "data_gate", "sha256.manifest", "manifest."),
    "code and settings": ("git.", "sha256.params", "sha256.vggflow", "lineage"),
    "packages": ("package.",),
}


def command(
    context: typer.Context,
    number: options.Number = None,
    candidate: options.Candidate = False,
    as_json: options.AsJson = False,
) -> None:
    """Prints where a version came from: code, data, settings, packages, who and why."""
    from vggflow.tracking import connection
    from vggflow.tracking.registry import model_versions

    workspace = options.workspace(context)
    registry = connection.connect(workspace)
    version = model_versions.chosen(registry, number, candidate=candidate)
    groups = trace(version)
    if as_json:
        options.print_json(groups)
        return
    for group, rows in groups.items():
        out.print(table(group, ["", ""], [[name, value] for name, value in rows.items()]))


def trace(version: "Version") -> dict[str, dict[str, str]]:
    """Everything that a version says about where it came from, in groups of names and values."""
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.created_ms / 1000))
    head = {"model": version.uri, "made": made, "mlflow run": version.run_id}
    if version.aliases:
        head["aliases"] = ", ".join(version.aliases)
    groups = {
        group: {key: version.tags[key] for key in sorted(version.tags) if key.startswith(beginnings)}
        for group, beginnings in GROUPS.items()
    }
    return {"version": head} | {group: rows for group, rows in groups.items() if rows}
