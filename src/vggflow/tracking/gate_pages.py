"""The gate's pages in MLflow, where people can read them after the clone that made them is gone."""

import os
from dataclasses import dataclass

from mlflow import MlflowClient

from vggflow import artifacts
from vggflow.credentials import without_password
from vggflow.environment import MLFLOW_URL
from vggflow.tracking import connection, runs
from vggflow.tracking.registry.model_versions import EVIDENCE, Version
from vggflow.tracking.registry.registry import Registry
from vggflow.workspace import Workspace

FOLDER = "validation"


@dataclass(frozen=True)
class Pages:
    """Addresses of the pages about a run; empty where MLflow has no server, thus no pages."""

    run: str = ""
    data_report: str = ""
    data_docs: str = ""
    evaluation: str = ""


def publish(registry: Registry, workspace: Workspace, version: Version) -> Pages:
    """Puts the gate's report and Data Docs beside a version in MLflow, once; returns where its pages are."""
    place = f"{version.tags[EVIDENCE]}/" if EVIDENCE in version.tags else ""
    _upload(registry.client, workspace, version.run_id, place)
    return _pages(registry.client, version.run_id, place)


def publish_refusal(workspace: Workspace, name: str) -> Pages:
    """The same where the gate refused, so that there is no training: in a run of its own, marked as failed."""
    registry = connection.connect(workspace)
    client = registry.client
    place = connection.experiment_id(client, registry.names.experiment)
    run_id = runs.open_run(client, place, name, {"stage": "validate", "data_gate": "refused"})
    _upload(client, workspace, run_id, "")
    runs.end_run(client, run_id, "FAILED")
    return _pages(client, run_id, "")


def address_for_people() -> str:
    """Where a browser finds MLflow: `VGGFLOW_MLFLOW_URL`, else the tracking server; empty without a server.

    Inside a cluster the tracking server goes by a name that browsers outside don't know.
    """
    uri = os.environ.get(MLFLOW_URL) or os.environ.get("MLFLOW_TRACKING_URI", "")
    return without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else ""


def _upload(client: MlflowClient, workspace: Workspace, run_id: str, place: str) -> None:
    with connection.mlflow_errors_as_one_line():
        if client.list_artifacts(run_id, f"{place}{FOLDER}"):
            return
    names = (artifacts.DATA_DOCS, artifacts.REPORT, artifacts.VALIDATION_RESULT)
    there = [workspace.path(name) for name in names if workspace.path(name).exists()]
    runs.log_files(client, run_id, there, f"{place}{FOLDER}")


def _pages(client: MlflowClient, run_id: str, place: str) -> Pages:
    base = address_for_people()
    if not base:
        return Pages()
    with connection.mlflow_errors_as_one_line():
        experiment = client.get_run(run_id).info.experiment_id
    run = f"{base}/#/experiments/{experiment}/runs/{run_id}"
    files = f"{run}/artifacts/{place}".rstrip("/")
    return Pages(
        run,
        f"{files}/{FOLDER}/{artifacts.REPORT.name}",
        f"{files}/{FOLDER}/{artifacts.DATA_DOCS.name}/index.html",
        f"{files}/evaluation/{artifacts.EVALUATION_REPORT.name}",
    )
