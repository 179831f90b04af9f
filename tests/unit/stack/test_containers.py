"""What `vggflow up --containers` writes before Docker is asked: passwords, ports, and whom workers may reach."""

import re
import shutil
import socket
import stat
from pathlib import Path

import dotenv
import pytest
from tiny import write_params

from vggflow.errors import UsageError
from vggflow.processes.servers import LOCALHOST
from vggflow.stack import containers
from vggflow.workspace import Workspace

INFRA = Path(__file__).parents[3] / "infra"


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout" / "infra"
    folder.mkdir(parents=True)
    for name in (containers.COMPOSE, containers.EXAMPLE):
        shutil.copy(INFRA / name, folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "pets")
    made.root.mkdir()
    write_params(made.root)
    made.git("init", "--quiet")
    made.git("remote", "add", "origin", "git@git.example.org:team/pets.git")
    return made


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("git@github.com:team/pets.git", "github.com:22"),
        ("github.com:team/pets.git", "github.com:22"),
        ("ssh://git@git.example.org:2222/pets.git", "git.example.org:2222"),
        ("https://git.example.org/pets.git", "git.example.org:443"),
        ("http://10.0.0.7:3000/pets.git", "10.0.0.7:3000"),
        ("git://git.example.org/pets.git", "git.example.org:9418"),
        ("/srv/git/pets.git", ""),
        ("file:///srv/git/pets.git", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_git_remote(url: str, host: str) -> None:
    assert containers.git_host(url) == host


def test_the_first_start_fills_in_all_that_is_secret_for_its_owner_only(
    infra: Path, workspace: Workspace
) -> None:
    made = containers.fill_in(infra, workspace)
    path = infra / containers.ENV
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = [made[name] for name in (*containers.SECRETS, containers.LOGIN)]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 32 for value in values)
    assert made["WORKERS_MAY_REACH"] == "git.example.org:22"
    example = (infra / containers.EXAMPLE).read_text().splitlines()
    assert [line for line in path.read_text().splitlines() if line.startswith("#")] == [
        line for line in example if line.startswith("#")
    ]


def test_a_second_start_changes_nothing_and_what_somebody_wrote_stays(
    infra: Path, workspace: Workspace
) -> None:
    containers.fill_in(infra, workspace)
    path = infra / containers.ENV
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"
    text = path.read_text().replace("GIT_KEY=\n", f'GIT_KEY="{key}"\n')
    text = text.replace("MLFLOW_HOST_NAME=localhost", "MLFLOW_HOST_NAME=ml.example.org")
    path.write_text(text)
    path.chmod(0o644)
    again = containers.fill_in(infra, workspace)
    assert path.read_text() == text
    assert again["GIT_KEY"] == key
    assert again["MLFLOW_HOST_NAME"] == "ml.example.org"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_git_host_of_a_second_workspace_is_added(infra: Path, workspace: Workspace) -> None:
    containers.fill_in(infra, workspace)
    workspace.git("remote", "set-url", "origin", "https://code.example.org/cats.git")
    assert (
        containers.fill_in(infra, workspace)["WORKERS_MAY_REACH"] == "git.example.org:22 code.example.org:443"
    )
    assert (
        containers.fill_in(infra, workspace)["WORKERS_MAY_REACH"] == "git.example.org:22 code.example.org:443"
    )


def test_a_line_that_is_missing_or_empty_is_filled_in(infra: Path, workspace: Workspace) -> None:
    before = containers.fill_in(infra, workspace)
    path = infra / containers.ENV
    lines = [line for line in path.read_text().splitlines() if not line.startswith("SERVE_TOKEN=")]
    path.write_text("\n".join(lines) + "\n")
    after = containers.fill_in(infra, workspace)
    assert after["SERVE_TOKEN"]
    assert {name: value for name, value in after.items() if name != "SERVE_TOKEN"} == {
        name: value for name, value in before.items() if name != "SERVE_TOKEN"
    }


def test_a_port_that_is_taken_is_left_to_who_has_it(infra: Path, workspace: Workspace) -> None:
    taken = socket.create_server((LOCALHOST, 0))
    with taken:
        port = taken.getsockname()[1]
        example = infra / containers.EXAMPLE
        example.write_text(example.read_text().replace("=5000", f"={port}").replace(":5000", f":{port}"))
        made = containers.fill_in(infra, workspace)
    assert made["MLFLOW_PORT"] != str(port)
    assert made["MLFLOW_URL"] == f"http://localhost:{made['MLFLOW_PORT']}"
    assert (
        dotenv.dotenv_values(infra / containers.ENV)["PREFECT_URL"]
        == f"http://localhost:{made['PREFECT_PORT']}"
    )


@pytest.mark.parametrize(
    ("projects", "chosen"),
    [("", "vggflow"), ("shop\n\nvggflow", "vggflow-2"), ("vggflow-2\nvggflow\nvggflow", "vggflow-3")],
)
@pytest.mark.parametrize("where", ["ps", "volume"])
def test_a_stack_does_not_take_over_another_one_of_its_name(
    infra: Path,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    projects: str,
    chosen: str,
) -> None:
    (tmp_path / "projects").write_text(f"{projects}\n")
    _docker(tmp_path, monkeypatch, f"{where}) cat {tmp_path}/projects")
    assert containers.fill_in(infra, workspace)[containers.PROJECT] == chosen
    (tmp_path / "projects").write_text(f"{chosen}\n")
    assert containers.fill_in(infra, workspace)[containers.PROJECT] == chosen


def test_a_name_that_somebody_set_is_written_down(
    infra: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "cats")
    containers.fill_in(infra, workspace)
    monkeypatch.delenv("COMPOSE_PROJECT_NAME")
    assert containers.fill_in(infra, workspace)[containers.PROJECT] == "cats"


def _docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: str) -> None:
    """A program of that name which answers to some first words."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$1" in {cases};; *) exit 1;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_folder_that_is_no_infra_and_a_machine_without_docker_are_named(
    infra: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="name the folder `infra` of a checkout"):
        containers.up(workspace, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="install Docker with Compose"):
        containers.up(workspace, infra)
    assert not (infra / containers.ENV).exists()


@pytest.mark.parametrize(
    ("version", "info", "told"),
    [
        ("echo 2.23.3", "echo 28.0", "`docker compose` is 2.23.3 here: install Docker with Compose 2.24"),
        ("exit 1", "echo 28.0", "`docker compose` is missing here"),
        ("echo 2.26.1-4", "exit 1", "Docker's daemon does not answer: start it"),
    ],
)
def test_a_docker_that_is_old_or_does_not_run_is_named_before_anything_is_written(
    infra: Path,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    info: str,
    told: str,
) -> None:
    _docker(tmp_path, monkeypatch, f"compose) {version};; info) {info}")
    with pytest.raises(UsageError, match=re.escape(told)):
        containers.up(workspace, infra)
    assert not (infra / containers.ENV).exists()


def test_another_name_in_prefect_s_log_in_is_named(infra: Path, workspace: Workspace) -> None:
    made = dict(containers.fill_in(infra, workspace))
    with pytest.raises(UsageError, match=r"PREFECT_LOGIN in infra/\.env is not admin:PASSWORD"):
        containers.place_of(workspace, made | {"PREFECT_LOGIN": "ann:secret"})
