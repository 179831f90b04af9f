"""The MLflow run of a training: opened once, continued after a kill, rebuilt where a server lacks it."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from vggflow import artifacts, files
from vggflow.errors import SettingsError
from vggflow.settings import parse
from vggflow.tracking import limits, logged_settings
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.metric_writer import MetricWriter
from vggflow.workspace import Workspace

EVALUATION = "evaluation"
# Where the table of the images that a training learned from lies in its run.
TRAINED_ON = "trained_on"
ORIGINAL = "vggflow.original_run_id"


def open_run(client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Starts a run and returns its id."""
    with mlflow_errors_as_one_line():
        named = limits.cut(name, limits.RUN_NAME)
        return str(client.create_run(experiment, run_name=named, tags=dict(tags)).info.run_id)


def exists(client: MlflowClient, run_id: str) -> bool:
    """Whether this server has the run, and nobody deleted it."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        # A server with users says "denied" of what is not there, so that nobody learns what is.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"):
            return False
        with mlflow_errors_as_one_line():
            raise


def end_run(client: MlflowClient, run_id: str, status: str = "FINISHED") -> None:
    """Closes a run as FINISHED, FAILED or KILLED."""
    with mlflow_errors_as_one_line():
        client.set_terminated(run_id, status)


def resume_run(client: MlflowClient, run_id: str) -> None:
    """Marks a run as running again."""
    with mlflow_errors_as_one_line():
        client.update_run(run_id, status="RUNNING")


def log_facts(client: MlflowClient, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Writes settings and facts; a parameter that stands there already is left, since MLflow forbids changing it."""
    with mlflow_errors_as_one_line():
        known = client.get_run(run_id).data.params
        new = [Param(key, str(value)[: limits.PARAM]) for key, value in params.items() if key not in known]
        for start in range(0, len(new), 100):
            client.log_batch(run_id, params=new[start : start + 100])
        client.log_batch(run_id, tags=[RunTag(key, str(value)[:5000]) for key, value in tags.items()])


def log_numbers(client: MlflowClient, run_id: str, numbers: Mapping[str, float]) -> None:
    """Writes single numbers, such as the accuracy on test, once: a second call with equal values adds nothing."""
    with mlflow_errors_as_one_line():
        known = client.get_run(run_id).data.metrics
        now = int(time.time() * 1000)
        new = [Metric(key, value, now, 0) for key, value in numbers.items() if known.get(key) != value]
        client.log_batch(run_id, metrics=new)


def metric_key(name: str) -> str:
    """A name that MLflow takes for a metric: of class `c++` it makes `c_2B_2B_`, so that no two names become one.

    MLflow allows letters, digits and `_-. :/`, 250 in all; class names are names of folders, which may hold anything.
    """
    plain = re.sub(r"[^/\w.\- :]+", lambda found: "".join(f"_{ord(c):X}" for c in found[0]) + "_", name)
    return limits.key(plain)


def log_files(client: MlflowClient, run_id: str, paths: Sequence[Path], folder: str) -> None:
    """Uploads files, and folders with what is in them."""
    with mlflow_errors_as_one_line():
        for path in paths:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), f"{folder}/{path.name}")
            else:
                client.log_artifact(run_id, str(path), folder)


def log_text(client: MlflowClient, run_id: str, text: str, name: str) -> None:
    """Uploads a text as a file."""
    with mlflow_errors_as_one_line():
        client.log_text(run_id, text, name)


def log_evaluation(client: MlflowClient, run_id: str, workspace: Workspace) -> None:
    """Writes the numbers and pictures of the evaluation into the run of the training."""
    metrics = files.read_json(workspace.path(artifacts.METRICS))
    split = metrics["split"]
    numbers = {
        f"{split}/{key}": float(value) for key, value in metrics.items() if isinstance(value, int | float)
    }
    for name, scores in metrics["per_class"].items():
        numbers |= {
            metric_key(f"{split}/{key}/{name}"): float(value)
            for key, value in scores.items()
            if value is not None
        }
    log_numbers(client, run_id, numbers)
    log_files(client, run_id, evaluation_files(workspace), EVALUATION)


def log_evidence(client: MlflowClient, run_id: str, workspace: Workspace, folder: Path, place: str) -> None:
    """Uploads what a version rests on to a place of its own: later versions of the same training have another.

    Args:
        folder: What is to lie there beside the evaluation.
        place: A folder of the run's artifacts, `versions/KEY`.
    """
    log_files(client, run_id, sorted(folder.iterdir()), place)
    log_files(client, run_id, evaluation_files(workspace), f"{place}/{EVALUATION}")


def evaluation_files(workspace: Workspace) -> list[Path]:
    """What an evaluation left for people and for later comparisons."""
    names = (artifacts.PLOTS, artifacts.METRICS, artifacts.PREDICTIONS, artifacts.EVALUATION_REPORT)
    return [workspace.path(name) for name in names]


def rebuild(client: MlflowClient, experiment: str, workspace: Workspace, recorded: Mapping[str, Any]) -> str:
    """Makes the run of a restored model anew from its files, once; returns its id on this server."""
    original = str(recorded["run_id"])
    with mlflow_errors_as_one_line():
        # Asked for by its tag: the id that was recorded is that of another server.
        found = client.search_runs([experiment], f"tags.`{ORIGINAL}` = '{original}'", max_results=1)
    if found:
        log_evaluation(client, found[0].info.run_id, workspace)  # it may be another than that of then
        return str(found[0].info.run_id)
    run_id = open_run(client, experiment, f"{workspace.name} · restored", {"stage": "train"})
    params = {**_settings_of(recorded), **recorded.get("facts", {})}
    log_facts(client, run_id, params, recorded.get("lineage", {}).get("tags", {}))
    writer = MetricWriter(client, run_id)
    for row in files.read_json(workspace.path(artifacts.HISTORY)):
        values = {key: value for key, value in row.items() if not isinstance(value, str) and key != "epoch"}
        writer.log(values, int(row["epoch"]))
    writer.log(recorded.get("results", {}), 0)
    writer.close()
    log_evaluation(client, run_id, workspace)
    with mlflow_errors_as_one_line():
        client.set_tag(run_id, ORIGINAL, original)  # last, so that a half-made one is not taken for whole
    end_run(client, run_id)
    return run_id


def _settings_of(recorded: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a restored model's training; none where they were not kept, or another vggflow's."""
    text = recorded.get("lineage", {}).get("files", {}).get(artifacts.PARAMS.name)
    try:
        return logged_settings.flat(parse(yaml.safe_load(text))) if text else {}
    except (SettingsError, yaml.YAMLError):
        return {}
