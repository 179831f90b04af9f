"""Where a version came from, and whether the same inputs give the same model again."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vggflow import artifacts, files, packages, pulling
from vggflow import workspace as workspaces
from vggflow.console import tell
from vggflow.errors import UsageError, VggflowError
from vggflow.process import DRIVER
from vggflow.tracking import connection, decisions, ledger, registry
from vggflow.tracking.registry import Version
from vggflow.workspace import Workspace

STAGES = ("validate", "train", "evaluate")
# How the tags of a version are grouped for people: heading → beginnings of the tags' names.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "promotion": ("promotion.", "rollback.", "release."),
    "evaluation": ("accuracy", "log_loss", "evaluated_on", "evaluation."),
    "training": ("trained_by", "flow_run_id", "sha256.model", "sha256.start_weights"),
    "data": ("data.", "data_gate", "sha256.manifest", "manifest."),
    "code and settings": ("git.", "sha256.params", "lineage"),
    "packages": ("package.",),
}


def find_version(workspace: Workspace, number: int | None, candidate: bool = False) -> Version:
    """A version of the production model (the champion unless numbered), or of the candidates."""
    names = workspace.settings().registry
    client = connection.connect(workspace)
    if candidate:
        return registry.version_of(client, names.candidates, number, registry.CHALLENGER)
    return registry.version_of(client, names.name, number, registry.CHAMPION)


def trace(version: Version) -> dict[str, dict[str, str]]:
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


def history(workspace: Workspace) -> list[dict[str, str | int | None]]:
    """Who was champion when, newest first: version, from, until, accuracy, data, by, why, stored. Times are UTC.

    `stored` is `deleted` where the version was deleted since; its time ends where the next one's begins.
    """
    names = workspace.settings().registry
    client = connection.connect(workspace)
    book = ledger.read(client, names)
    there = {version.number: version.tags for version in book.versions}
    recorded = {n: tags for n, tags in decisions.promotions(client, names).items() if n not in there}
    made = {n: ledger.time_of(int(tags[decisions.MADE])) for n, tags in recorded.items()}
    return [
        _reign(reign, there.get(reign.number), recorded.get(reign.number, {}))
        for reign in reversed(book.reigns(made))
    ]


def _reign(
    reign: ledger.Reign, version: Mapping[str, str] | None, recorded: Mapping[str, str]
) -> dict[str, str | int | None]:
    """A row of the history; what is known of a deleted version stands in the record of its promotion."""
    named = {f"promotion.{key}": recorded[key] for key in ("by", "reason") if key in recorded}
    tags = version if version is not None else {**recorded, **named}
    return {
        "version": reign.number,
        "from": reign.since,
        "until": reign.until,
        "accuracy": tags.get("accuracy"),
        "data": tags.get("data.hash", "")[:6],
        "by": tags.get("promotion.by"),
        "why": tags.get("promotion.reason"),
        "stored": "yes" if version is not None else "deleted",
    }


def as_cells(row: Mapping[str, str | int | None]) -> list[str]:
    """A row of the history for people: local times to the minute."""
    short: dict[str, str | int | None] = dict(row)
    for key in ("from", "until"):
        if when := row[key]:
            short[key] = f"{datetime.fromisoformat(str(when)).astimezone():%Y-%m-%d %H:%M}"
    if row["accuracy"]:
        short["accuracy"] = f"{float(row['accuracy']):.3f}"
    return [str(value or "–") for value in short.values()]


@dataclass(frozen=True)
class Reproduction:
    """What came out when a version was trained again from its recorded inputs.

    Attributes:
        model: The version, as `models:/NAME/3`.
        identical: Whether the model file has the same bytes.
        sha256: Of the model file, then and now.
        metrics: Measures that differ, then and now; none where the bytes are equal.
        packages: Packages of another version than then: name → then and now.
        seconds: What it took.
    """

    model: str
    identical: bool
    sha256: tuple[str, str]
    metrics: Mapping[str, tuple[float, float]]
    packages: Mapping[str, tuple[str, str]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def reproduce(workspace: Workspace, version: Version, folder: Path | None = None) -> Reproduction:
    """Clones the recorded commit, takes settings and data as recorded, trains, and compares.

    Nothing is taken from caches, and nothing is written to the team's servers.

    Args:
        workspace: Any workspace of the same registry.
        version: What is to be rebuilt.
        folder: Where to leave the rebuilt workspace; nothing means that it is removed.

    Raises:
        UsageError: the version lacks its commit or remote, or `folder` exists.
        VggflowError: a remote does not answer, or a stage failed.
    """
    began = time.monotonic()
    with _rebuilt(workspace, version, folder) as clone:
        for stage in STAGES:
            tell(f"reproduce: {stage}")
            _run_stage(clone, stage)
        return _compared(version, clone, time.monotonic() - began)


@contextmanager
def _rebuilt(workspace: Workspace, version: Version, folder: Path | None) -> Iterator[Workspace]:
    """A clone at the version's commit, with its settings and data."""
    commit, remote = version.tags.get("git.commit"), version.tags.get("git.remote") or str(workspace.root)
    if not commit:
        raise UsageError(
            f"{version.uri} carries no git commit: it was not registered by `vggflow register`, so nobody can "
            "tell what to rebuild"
        )
    if folder is not None and folder.exists():
        raise UsageError(f"{folder} exists: give a folder that doesn't, the workspace is rebuilt there")
    with tempfile.TemporaryDirectory(prefix="vggflow-reproduce-") as temporary:
        clone = Workspace((folder or Path(temporary) / workspace.name).resolve())
        tell(f"reproduce: cloning {remote} at {commit[:12]}")
        workspace.git("clone", "--quiet", "--no-checkout", remote, str(clone.root))
        try:
            clone.git("checkout", "--quiet", "--detach", commit)
        except VggflowError as error:
            raise VggflowError(f"commit {commit[:12]} is not in {remote}: push it there ({error})") from error
        registry.download_lineage(version, clone.root)
        _take_over_access(workspace, clone)
        workspaces.follow_version(clone)
        for tracked in ("data", "weights"):
            pulling.pull(clone, tracked)
        yield clone


def _take_over_access(workspace: Workspace, clone: Workspace) -> None:
    """How this machine reaches the DVC remote is not in git."""
    local = workspace.root / ".dvc" / "config.local"
    if local.is_file():
        files.write_text(clone.root / ".dvc" / "config.local", local.read_text("utf-8"))


def _run_stage(clone: Workspace, stage: str) -> None:
    """A stage in a process of its own, on a tracking server and with caches of its own."""
    state = str(clone.path(artifacts.STATE) / "state")
    own = {"VGGFLOW_STATE": state, DRIVER: str(os.getpid())}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING_")}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(clone.root), stage]
    if subprocess.run(command, env=inherited | own, check=False).returncode != 0:
        raise VggflowError(f"{stage} failed where {clone.root} was rebuilt: see above")


def _compared(version: Version, clone: Workspace, seconds: float) -> Reproduction:
    then, now = version.tags.get("sha256.model", ""), files.sha256(clone.path(artifacts.MODEL))
    before, after = registry.recorded_metrics(version), files.read_json(clone.path(artifacts.METRICS))
    measures = {
        key: (float(value), float(after[key]))
        for key, value in before.items()
        if isinstance(value, int | float) and after.get(key) != value
    }
    packages = {
        name: (number, packages.installed(name))
        for key, number in version.tags.items()
        if key.startswith("package.")
        and (name := key.removeprefix("package."))
        and packages.installed(name) != number
    }
    return Reproduction(version.uri, then == now, (then, now), measures, packages, seconds)
