"""`vggflow reproduce`: trains a version again from its recorded commit, settings and data, and compares."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow import artifacts, files, packages
from vggflow import workspace as workspaces
from vggflow.commands import options
from vggflow.console import out, say, table, tell
from vggflow.environment import DRIVER, STATE
from vggflow.errors import UsageError, VggflowError
from vggflow.versioning import verified_pull
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version

STAGES = ("validate", "train", "evaluate")


def command(
    context: typer.Context,
    number: options.Number = None,
    candidate: options.Candidate = False,
    folder: Annotated[
        Path | None, typer.Option("--into", help="Leave the rebuilt workspace in this folder.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Trains a version again from its recorded commit, settings and data, and compares."""
    from vggflow.tracking import connection
    from vggflow.tracking.registry import model_versions

    workspace = options.workspace(context)
    registry = connection.connect(workspace)
    version = model_versions.chosen(registry, number, candidate=candidate)
    found = reproduce(workspace, version, folder)
    if as_json:
        options.print_json(found.to_dict())
    else:
        say(
            f"{found.model}: {'byte-identical' if found.identical else 'another model'}, {found.seconds:.0f} s"
        )
        differing = [[name, *map(str, pair)] for name, pair in {**found.metrics, **found.packages}.items()]
        if differing:
            out.print(table("", ["what differs", "then", "now"], differing))
    raise typer.Exit(0 if found.identical else 1)


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


def reproduce(workspace: Workspace, version: "Version", folder: Path | None = None) -> Reproduction:
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
def _rebuilt(workspace: Workspace, version: "Version", folder: Path | None) -> Iterator[Workspace]:
    """A clone at the version's commit, with its settings and data."""
    from vggflow.tracking.registry import model_versions

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
        # Over those of the commit: settings may have been edited and not committed when it was trained.
        model_versions.download_lineage(version, clone.root)
        _take_over_access(workspace, clone)
        # Or each stage would refuse other packages than the recorded ones.
        workspaces.follow_version(clone)
        for tracked in ("data", "weights"):
            verified_pull.pull(clone, tracked)
        yield clone


def _take_over_access(workspace: Workspace, clone: Workspace) -> None:
    """How this machine reaches the DVC remote is not in git."""
    local = workspace.root / ".dvc" / "config.local"
    if local.is_file():
        # There may be passwords in it.
        files.write_text(clone.root / ".dvc" / "config.local", local.read_text("utf-8"), private=True)


def _run_stage(clone: Workspace, stage: str) -> None:
    """A stage in a process of its own, on a tracking server and with caches of its own."""
    state = str(clone.path(artifacts.STATE) / "state")
    # Neither features nor checkpoints of this machine: what they hold would not be computed again.
    own = {STATE: state, DRIVER: str(os.getpid())}
    # So the clone tracks in a database of its own, and the team's server learns nothing of it.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING_")}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(clone.root), stage]
    if subprocess.run(command, env=inherited | own, check=False).returncode != 0:
        raise VggflowError(f"{stage} failed where {clone.root} was rebuilt: see above")


def _compared(version: "Version", clone: Workspace, seconds: float) -> Reproduction:
    from vggflow.tracking.registry import model_versions

    then, now = version.tags.get("sha256.model", ""), files.sha256(clone.path(artifacts.MODEL))
    before, after = model_versions.recorded_metrics(version), files.read_json(clone.path(artifacts.METRICS))
    measures = {
        key: (float(value), float(after[key]))
        for key, value in before.items()
        if isinstance(value, int | float) and after.get(key) != value
    }
    others = {
        name: (number, packages.installed(name))
        for key, number in version.tags.items()
        if key.startswith("package.")
        and (name := key.removeprefix("package."))
        and packages.installed(name) != number
    }
    return Reproduction(version.uri, then == now, (then, now), measures, others, seconds)
