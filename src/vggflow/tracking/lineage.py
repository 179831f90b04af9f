"""What every version carries, so that it can be traced and rebuilt."""

import getpass
import os
import socket
from pathlib import Path

import yaml

from vggflow import artifacts, console, files, packages, repository
from vggflow.models import imagenet
from vggflow.settings import Settings
from vggflow.workspace import Workspace

# Beside those that can change a result: what carried it.
CARRIERS = ("vggflow", "mlflow", "prefect", "dvc", "pandas", "pyarrow")
FOLDER = "lineage"
FLOW_RUN = "VGGFLOW_FLOW_RUN_ID"


def tags(workspace: Workspace, settings: Settings) -> dict[str, str]:
    """Where a model came from, as tags. What does not exist is left out."""
    found = {
        **_git(workspace),
        **_data(workspace),
        **_digests(workspace, settings),
        **_packages(settings),
        **_evaluation(workspace),
        "data_gate": _verdict(workspace),
        **_trained_by(workspace),
        "flow_run_id": os.environ.get(FLOW_RUN, ""),
    }
    return {key: value for key, value in found.items() if value}


def lineage_files(workspace: Workspace) -> list[Path]:
    """The files that say how to compute a version again."""
    names = (
        artifacts.PARAMS,
        artifacts.PIPELINE,
        artifacts.PIPELINE_LOCK,
        artifacts.VERSION,
        artifacts.MANIFEST,
    )
    paths = [workspace.path(name) for name in names] + sorted(workspace.root.glob("*.dvc"))
    return [path for path in paths if path.is_file()]


def data_version(workspace: Workspace) -> str:
    """The first six digits of the data's DVC hash."""
    return data_hash(workspace)[:6] or "unversioned"


def data_hash(workspace: Workspace) -> str:
    """The data's DVC hash; empty where nothing is versioned yet."""
    return _data(workspace).get("data.hash", "")


def person() -> str:
    """Who runs this, as the machine knows them."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _trained_by(workspace: Workspace) -> dict[str, str]:
    """Who trained, which may be somebody else than who registers; the model's run file travels with it."""
    recorded = files.read_json(workspace.path(artifacts.RUN))
    names = {"trained_by": "trained_by", "trained_by.kind": "trained_by_kind"}
    return {tag: str(recorded.get(key, "")) for tag, key in names.items()}


def _evaluation(workspace: Workspace) -> dict[str, str]:
    metrics = files.read_json(workspace.path(artifacts.METRICS))
    measures = {key: f"{metrics[key]:.6f}" for key in ("accuracy", "log_loss")}
    return measures | {"evaluated_on": metrics["split"]}


def _verdict(workspace: Workspace) -> str:
    path = workspace.path(artifacts.VALIDATION_RESULT)
    return str(files.read_json(path)["verdict"]) if path.exists() else ""


def _git(workspace: Workspace) -> dict[str, str]:
    """The commit, and whether the tree differed from it.

    Raises:
        VggflowError: git failed, so nobody can tell what the model was made from.
    """
    commit = repository.commit_of(workspace)
    if commit.missing:
        console.tell(f"this version carries no git commit, so nobody can rebuild it: {commit.missing}")
    return {
        "git.commit": commit.digest,
        "git.missing": commit.missing,
        "git.remote": commit.remote,
        "git.dirty": "" if commit.missing else str(commit.dirty).lower(),
    }


def _data(workspace: Workspace) -> dict[str, str]:
    path = workspace.root / "data.dvc"
    if not path.exists():
        return {}
    entry = yaml.safe_load(path.read_text("utf-8"))["outs"][0]
    return {
        "data.hash": str(entry.get("md5", "")),
        "data.files": str(entry.get("nfiles", "")),
        "data.bytes": str(entry.get("size", "")),
    }


def _digests(workspace: Workspace, settings: Settings) -> dict[str, str]:
    named = {
        "sha256.params": artifacts.PARAMS,
        "sha256.manifest": artifacts.MANIFEST,
        "sha256.model": artifacts.MODEL,
    }
    paths = {key: workspace.path(name) for key, name in named.items()}
    if (start := _start_weights(workspace, settings)) is not None:
        paths["sha256.start_weights"] = start
    return {key: files.sha256(path) for key, path in paths.items() if path.is_file()}


def _start_weights(workspace: Workspace, settings: Settings) -> Path | None:
    model = settings.model
    if model.weights == "imagenet":
        return imagenet.found(workspace.path(artifacts.WEIGHTS), with_top=model.head == "fc")
    return None if model.weights == "none" else workspace.root / model.weights


def _packages(settings: Settings) -> dict[str, str]:
    found = {name: packages.installed(name) for name in CARRIERS} | packages.of_results(
        settings.train.backend
    )
    return {f"package.{name}": number for name, number in found.items()}
