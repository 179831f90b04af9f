"""What a connection to MLflow leaves behind in this process."""

import os
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tiny import Ran, write_params

from vggflow import artifacts
from vggflow.environment import tracking_uri
from vggflow.settings import RegistrySettings
from vggflow.tracking import connection
from vggflow.workspace import Workspace


def test_two_workspaces_in_one_process_have_a_server_each(tmp_path: Path) -> None:
    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")
    for each in (first, second):
        write_params(each.root)
    connection.connect(first)
    assert tracking_uri(second.root) == f"sqlite:///{second.root}/.vggflow/mlflow.db"


def test_an_address_that_was_given_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = f"sqlite:///{tmp_path}/given.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    connection.connect(Workspace(tmp_path), RegistrySettings(name="cats", experiment="cats"))
    assert os.environ["MLFLOW_TRACKING_URI"] == given


def test_a_command_tells_of_a_server_that_hangs_within_ten_seconds(
    workspace: Path, vggflow: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        address = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        began = time.monotonic()
        ran = vggflow("-C", workspace, "models")
        assert time.monotonic() - began < 10
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert f"MLflow at {address} does not answer within 6 s: start it" in ran.err


def test_a_database_that_another_program_holds_is_told_in_one_line(
    workspace: Path, vggflow: Callable[..., Ran]
) -> None:
    assert vggflow("-C", workspace, "models").code == 0
    database = workspace / artifacts.MLFLOW_DATABASE
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        ran = vggflow("-C", workspace, "models")
    assert time.monotonic() - began < 10
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.endswith("mlflow.db is locked by another program: wait for it")
