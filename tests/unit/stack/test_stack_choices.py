"""What a stack remembers, and who can read it."""

import os
import socket
import stat
from pathlib import Path

import pytest
from tiny import write_params

from vggflow import files
from vggflow.errors import VggflowError
from vggflow.stack import choices, log_ins
from vggflow.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_params(tmp_path)
    return Workspace(tmp_path)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_ports_and_passwords_are_those_of_the_first_start(workspace: Workspace) -> None:
    assert choices.open_place(workspace) == choices.open_place(workspace)


def test_every_password_is_another_one_and_long(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_params(other)
    made = [
        *choices.open_place(workspace).passwords.values(),
        *choices.open_place(Workspace(other)).passwords.values(),
    ]
    assert len(set(made)) == len(made)
    assert min(map(len, made)) >= 32


def test_only_the_owner_reads_passwords(workspace: Workspace) -> None:
    here = choices.open_place(workspace)
    log_ins.write(here)
    assert _mode(here.folder / "passwords.json") == 0o600
    assert _mode(here.folder / "env") == 0o600
    assert _mode(here.folder) & 0o066 == 0
    for path in here.folder.iterdir():
        assert path.is_file() or _mode(path) & 0o077 == 0, path


def test_a_private_file_is_never_readable_by_others_for_a_moment(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.write_text(tmp_path / "secret", "first", private=True)
        files.write_text(tmp_path / "secret", "second", private=True)
    finally:
        os.umask(before)
    assert (tmp_path / "secret").read_text() == "second"
    assert _mode(tmp_path / "secret") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_ports_are_different_ones(workspace: Workspace) -> None:
    ports = choices.open_place(workspace).choices.ports
    assert sorted(ports) == ["mlflow", "postgresql", "prefect"]
    assert len(set(ports.values())) == 3


def test_a_taken_port_is_named(workspace: Workspace) -> None:
    here = choices.open_place(workspace)
    choices.check_ports(here)
    with socket.socket() as other:
        other.bind(("127.0.0.1", here.choices.ports["mlflow"]))
        other.listen()
        with pytest.raises(VggflowError, match=rf"port {here.choices.ports['mlflow']}.*mlflow.*taken"):
            choices.check_ports(here)


@pytest.fixture
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing names a server, and what a test lets be named is forgotten after it."""
    for name in (
        *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
        *("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"),
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_servers")
def test_commands_use_the_workspaces_servers(workspace: Workspace) -> None:
    here = choices.open_place(workspace)
    log_ins.write(here)
    log_ins.use(workspace.root)
    assert os.environ["MLFLOW_TRACKING_URI"] == here.url("mlflow")
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == here.passwords["person"]
    assert os.environ["PREFECT_API_URL"] == f"{here.url('prefect')}/api"


@pytest.mark.usefixtures("no_servers")
def test_servers_that_were_named_are_used_with_their_log_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    log_ins.write(choices.open_place(workspace))
    log_ins.use(workspace.root)
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


@pytest.mark.usefixtures("no_servers")
def test_servers_that_are_stopped_are_said_to_be(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    log_ins.write(choices.open_place(workspace))
    log_ins.use(workspace.root)
    assert "vggflow up" in capsys.readouterr().err
