"""What every version carries, so that it can be traced and rebuilt."""

import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vggflow import artifacts, files, packages, version
from vggflow.data import manifest as manifests
from vggflow.environment import FLOW_RUN, user_name
from vggflow.errors import DataError
from vggflow.git_and_dvc import dvc_file
from vggflow.models import imagenet_weights
from vggflow.settings import Settings
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

# Beside those that can change a result: what carried it.
CARRIERS = ("vggflow", "mlflow", "prefect", "dvc", "pandas", "pyarrow")
FOLDER = "lineage"
EVALUATION = "evaluation."
RECORDED, NOT_RECORDED = "as of the training", "not recorded at the training"
KEPT_OF_TRAINING = (artifacts.PARAMS, artifacts.PIPELINE, artifacts.VERSION)
KEPT_OF_EVALUATION = (artifacts.PIPELINE_LOCK,)
NAMES = {
    "sha256.model": "the model",
    "manifest.digest": "the manifest of the images",
    "sha256.metrics": "the measures",
}


@dataclass(frozen=True)
class Snapshot:
    """What a stage was computed from, as of when it started: tags, and the texts of small files by name."""

    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"tags": dict(self.tags), "files": dict(self.files)}


@dataclass(frozen=True)
class Recorded:
    """What a model was trained from, and what it was evaluated from."""

    training: Snapshot
    evaluation: Snapshot


def of_training(workspace: Workspace, settings: Settings) -> Snapshot:
    """What a training that starts now is made from; train keeps it beside its model, with which it travels."""
    tags = {
        **_git(workspace),
        **_data(workspace),
        "sha256.params": files.text_sha256(workspace.path(artifacts.PARAMS)),
        "sha256.start_weights": _start_weights_digest(workspace, settings),
        **_packages(settings),
        "sha256.vggflow": version.stamp().partition("sha256:")[2],
        "data_gate": _verdict(workspace),
        "flow_run_id": os.environ.get(FLOW_RUN, ""),
    }
    return Snapshot(_without_empty(tags), _texts(workspace, KEPT_OF_TRAINING))


def of_evaluation(workspace: Workspace) -> Snapshot:
    """What an evaluation that starts now is made from: its test images may be newer than the training's data."""
    tags = {
        **_git(workspace),
        **_data(workspace),
        "sha256.params": files.text_sha256(workspace.path(artifacts.PARAMS)),
        "flow_run_id": os.environ.get(FLOW_RUN, ""),
    }
    named = {f"{EVALUATION}{key}": value for key, value in tags.items()}
    return Snapshot(_without_empty(named), _texts(workspace, KEPT_OF_EVALUATION))


def evaluated(workspace: Workspace) -> dict[str, str]:
    """Which model was measured on which images, and how it did: digests that tell whether files belong together."""
    manifest = manifests.read(workspace.path(artifacts.MANIFEST))
    return {
        "sha256.model": files.sha256(workspace.path(artifacts.MODEL)),
        "manifest.digest": manifests.digest(manifest),
        "sha256.metrics": files.text_sha256(workspace.path(artifacts.METRICS)),
    }


def tags(workspace: Workspace, recorded: Recorded) -> dict[str, str]:
    """Where the evaluated model came from, as tags. What does not exist or was not recorded is left out."""
    return _without_empty(
        {
            **recorded.evaluation.tags,
            **recorded.training.tags,
            "lineage": RECORDED if recorded.training.tags else NOT_RECORDED,
            **evaluated(workspace),
            "sha256.manifest": files.sha256(workspace.path(artifacts.MANIFEST)),
            **_measures(workspace),
            **_trained_by(workspace),
        }
    )


def read(workspace: Workspace) -> Recorded:
    """What the model here was trained and evaluated from, as it was then; empty where that was not recorded.

    Raises:
        DataError: model, manifest and measures are not those of one evaluation.
    """
    return Recorded(_snapshot(files.read_json(workspace.path(artifacts.RUN))), _read_evaluation(workspace))


def _read_evaluation(workspace: Workspace) -> Snapshot:
    path = workspace.path(artifacts.EVALUATION_RUN)
    recorded = files.read_json(path) if path.exists() else {}
    then, now = recorded.get("evaluated", {}), evaluated(workspace)
    other = [name for name in then if then[name] != now[name]]
    if not other:
        return _snapshot(recorded)
    # A dvc.yaml of before neither keeps nor removes this file, so it may be left from another evaluation.
    if str(artifacts.EVALUATION_RUN) not in workspace.path(artifacts.PIPELINE).read_text("utf-8"):
        return Snapshot()
    raise DataError(
        f"{' and '.join(NAMES[name] for name in other)} changed since the model was evaluated: "
        "run `vggflow retrain`, or `vggflow evaluate`, then register"
    )


def write_files(workspace: Workspace, recorded: Recorded, folder: Path) -> None:
    """Writes the files that say how to compute the version again, as they were then, and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**recorded.evaluation.files, **recorded.training.files}.items():
        files.write_text(folder / name, text)
    shutil.copyfile(workspace.path(artifacts.MANIFEST), folder / artifacts.MANIFEST.name)


def data_version(workspace: Workspace) -> str:
    """The first six digits of the data's DVC hash."""
    return data_hash(workspace)[:6] or "unversioned"


def data_hash(workspace: Workspace) -> str:
    """The data's DVC hash; empty where nothing is versioned yet."""
    return _data(workspace).get("data.hash", "")


def person() -> str:
    """Who runs this, as the machine knows them."""
    return f"{user_name()}@{socket.gethostname()}"


def _trained_by(workspace: Workspace) -> dict[str, str]:
    """Who trained, which may be somebody else than who registers; the model's run file travels with it."""
    recorded = files.read_json(workspace.path(artifacts.RUN))
    names = {"trained_by": "trained_by", "trained_by.kind": "trained_by_kind"}
    return {tag: str(recorded.get(key, "")) for tag, key in names.items()}


def _measures(workspace: Workspace) -> dict[str, str]:
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
    commit = git_state.commit_of(workspace)
    return {
        "git.commit": commit.digest,
        "git.missing": commit.missing,
        "git.remote": commit.remote,
        "git.dirty": "" if commit.missing else str(commit.dirty).lower(),
    }


def _data(workspace: Workspace) -> dict[str, str]:
    entry = dvc_file.read(workspace.root / "data.dvc")
    if entry is None:
        return {}
    return {"data.hash": entry.md5, "data.files": str(entry.files), "data.bytes": str(entry.size)}


def _snapshot(recorded: Mapping[str, Any]) -> Snapshot:
    found = recorded.get(FOLDER, {})
    return Snapshot(found.get("tags", {}), found.get("files", {}))


def _texts(workspace: Workspace, names: Sequence[PurePosixPath]) -> dict[str, str]:
    paths = [workspace.path(name) for name in names] + sorted(workspace.root.glob("*.dvc"))
    return {path.name: files.read_text(path) for path in paths if path.is_file()}


def _without_empty(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if value}


def _start_weights_digest(workspace: Workspace, settings: Settings) -> str:
    path = _start_weights(workspace, settings)
    return files.sha256(path) if path is not None and path.is_file() else ""


def _start_weights(workspace: Workspace, settings: Settings) -> Path | None:
    model = settings.model
    if model.weights == "imagenet":
        return imagenet_weights.found(workspace.path(artifacts.WEIGHTS), with_top=model.head == "fc")
    return None if model.weights == "none" else workspace.root / model.weights


def _packages(settings: Settings) -> dict[str, str]:
    found = {name: packages.installed(name) for name in CARRIERS} | packages.of_results(
        settings.train.backend
    )
    return {f"package.{name}": number for name, number in found.items()}


def run_name(workspace: Workspace) -> str:
    """What a run is called: the workspace, the data and the day, such as `pets · data 3f2a91 · 2026-11-21`."""
    data = data_version(workspace)
    return f"{workspace.name} · data {data} · {time.strftime('%Y-%m-%d')}"
