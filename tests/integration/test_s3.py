"""The whole way with data in S3 and MLflow's files in S3, against moto's server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pytest
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from moto.server import ThreadedMotoServer
from tiny import draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Store:
    """A store like S3, with a bucket for DVC and one for MLflow."""

    url: str
    server: ThreadedMotoServer

    def names(self, bucket: str) -> list[str]:
        client = boto3.client("s3", endpoint_url=self.url)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
        client = boto3.client("s3", endpoint_url=url)
        for bucket in ("dvc", "mlflow"):
            client.create_bucket(Bucket=bucket)
        yield Store(url, server)
    finally:
        server.stop()


@pytest.fixture
def mlflow_url(store: Store, tmp_path: Path) -> Iterator[str]:
    home = Workspace(tmp_path / "mlflow")
    home.root.mkdir()
    server = servers.mlflow(home, servers.free_ports(1)[0])
    command = list(server.command)
    command[command.index("--artifacts-destination") + 1] = "s3://mlflow/artifacts"
    with servers.running(home, replace(server, command=tuple(command))) as running:
        yield running.url


def try_vggflow(
    root: Path, mlflow_url: str, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    own = {"MLFLOW_TRACKING_URI": mlflow_url, "VGGFLOW_STATE": str(root.parent / "state"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]
    return subprocess.run(
        command, env=os.environ | own | variables, capture_output=True, text=True, timeout=500, check=False
    )


def vggflow(root: Path, mlflow_url: str, *arguments: str) -> str:
    done = try_vggflow(root, mlflow_url, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_data_and_models_live_in_s3_and_another_machine_restores_them(
    store: Store, mlflow_url: str, tmp_path: Path
) -> None:
    root = tmp_path / "one" / "tiny"
    write_params(root)
    made = workspaces.init(root)
    made.dvc("remote", "modify", "local", "url", "s3://dvc/tiny")
    made.dvc("remote", "modify", "local", "endpointurl", store.url)
    workspaces.commit(made, [".dvc/config"], "Data in S3")
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", tmp_path / "tiny.git"], check=True)
    made.git("remote", "add", "origin", str(tmp_path / "tiny.git"))
    vggflow(root, mlflow_url, "data", "import", str(draw_data(tmp_path / "delivery")))
    assert "Promoted" in vggflow(root, mlflow_url, "retrain")
    assert len(store.names("dvc")) > 36
    assert any(name.endswith("model.keras") for name in store.names("mlflow"))

    clone = tmp_path / "two" / "tiny"
    clone.parent.mkdir()
    subprocess.run(["git", "clone", "--quiet", tmp_path / "tiny.git", clone], check=True)
    vggflow(clone, mlflow_url, "doctor")
    vggflow(clone, mlflow_url, "retrain")
    assert not (clone.parent / "state" / "checkpoints").exists()
    seen = vggflow(clone, mlflow_url, "predict", str(tmp_path / "delivery/test/red"))
    assert "red" in seen

    # The store behind MLflow hangs, or is gone, while MLflow itself answers.
    images = str(tmp_path / "delivery/test/red")
    store.server.stop()
    gone = try_vggflow(clone, mlflow_url, "predict", "--model", "1", images)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "MLflow at" in gone.stderr.splitlines()[-1] and "Traceback" not in gone.stderr
    with socket.create_server(("127.0.0.1", int(store.url.rpartition(":")[2]))):
        limit = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
        began = time.monotonic()
        hangs = try_vggflow(clone, mlflow_url, "predict", "--model", "1", images, **limit)
        assert time.monotonic() - began < 30
    assert (hangs.returncode, hangs.stdout) == (1, "")
    told, said = hangs.stderr.splitlines()
    assert told.startswith("waiting for model.onnx of tiny version 1 from MLflow's store")
    assert said.endswith("within 8 s: look at its artifact store")


def test_files_come_through_mlflow_and_not_from_the_store_by_an_address_that_only_the_server_knows(
    store: Store, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {"_is_multipart_download_enabled": "DOWNLOAD", "_is_multipart_upload_enabled": "UPLOAD"}
    for kind in ways.values():
        monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{kind}", "")  # put back in the end
        monkeypatch.delenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{kind}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    write_params(tmp_path / "tiny")
    repository = MlflowArtifactsRepository("mlflow-artifacts:/models", tracking_uri=mlflow_url)
    assert all(getattr(repository, way)() for way in ways), "the server offers the store's address"
    connection.connect(Workspace(tmp_path / "tiny"))
    assert not any(getattr(repository, way)() for way in ways)
