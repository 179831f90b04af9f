"""`vggflow up`, from nothing, with real servers: each answers, nothing is left, everything is there again."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tiny import write_params
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vggflow import files
from vggflow import workspace as workspaces
from vggflow.stack import log_ins, postgres
from vggflow.stack.choices import open_place
from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
READY = "Ctrl-C stops all"


@dataclass
class Up:
    """A `vggflow up` that has said all that it says."""

    process: "subprocess.Popen[str]"
    lines: list[str]

    def below(self) -> list[psutil.Process]:
        """All that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> list[psutil.Process]:
        """Ends it, and returns what still runs of it half a minute later at most."""
        below = self.below()
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return psutil.wait_procs(below, timeout=30)[1]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A workspace that PostgreSQL's own account can reach; pytest's folders are closed to others."""
    with tempfile.TemporaryDirectory(prefix="vggflow-stack-") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "tiny"
        write_params(root)
        workspaces.init(root)
        yield root


def _command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]


def _run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(_command(root, *arguments), capture_output=True, text=True, timeout=120)


def _up(root: Path) -> Up:
    process = subprocess.Popen(
        _command(root, "up"),
        stdout=subprocess.PIPE,
        stderr=(root / "up.log").open("a"),
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "300"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != READY:
        line = process.stdout.readline()
        assert line, (root / "up.log").read_text()
        lines.append(line.strip())
    return Up(process, lines)


def _ask(url: str, login: str | None = None, content: Any = None) -> tuple[int, str]:
    """Status and text of a request, as anonymous or with `user:password`."""
    user, _, password = (login or "").partition(":")
    answer = httpx.request(
        "GET" if content is None else "POST",
        url,
        json=content,
        auth=(user, password) if login else None,
        trust_env=False,
        timeout=30,
    )
    return answer.status_code, answer.text


@pytest.fixture(scope="module")
def up(root: Path) -> Iterator[Up]:
    found = _up(root)
    yield found
    if found.process.poll() is None:
        found.end(signal.SIGTERM)


def _url(up: Up, name: str) -> str:
    return next(found[1] for line in up.lines if (found := re.match(rf"{name}\s+(http://\S+)", line)))


def _logins(root: Path) -> tuple[str, str]:
    known = json.loads((root / ".vggflow/stack/passwords.json").read_text())
    return f"{log_ins.person()}:{known['person']}", f"admin:{known['prefect']}"


def test_every_server_answers_who_is_logged_in_and_nobody_else(root: Path, up: Up) -> None:
    mlflow, prefect = _url(up, "MLflow"), _url(up, "Prefect")
    person, login = _logins(root)
    assert _ask(f"{mlflow}/health")[0] == 200
    search = {"max_results": 10}
    assert _ask(f"{mlflow}/api/2.0/mlflow/experiments/search", content=search)[0] == 401
    assert _ask(f"{mlflow}/api/2.0/mlflow/experiments/search", "admin:password1234", search)[0] == 401
    status, text = _ask(f"{mlflow}/api/2.0/mlflow/experiments/search", person, search)
    assert (status, "tiny-promotions" in text) == (200, True)
    assert _ask(f"{prefect}/api/health")[0] == 200
    assert _ask(f"{prefect}/api/work_pools/vggflow")[0] == 401
    assert _ask(f"{prefect}/api/work_pools/vggflow", "admin:admin")[0] == 401
    status, text = _ask(f"{prefect}/api/work_pools/vggflow", login)
    assert (status, json.loads(text)["type"]) == (200, "process")
    workers = json.loads(_ask(f"{prefect}/api/work_pools/vggflow/workers/filter", login, {})[1])
    assert [worker["status"] for worker in workers] == ["ONLINE"]


# Path of Prefect, and what it answers to who is not logged in and to who is. None: not tried.
PREFECT: dict[str, tuple[int, int | None]] = {
    "GET /api/health": (200, 200),
    "GET /api/ready": (200, 200),
    "GET /": (200, 200),
    "GET /ui-settings": (200, 200),
    "GET /api/version": (401, 200),
    "GET /api/admin/settings": (401, 200),
    "POST /api/admin/database/clear": (401, None),
    "POST /api/flows/filter": (401, 200),
    "POST /api/flow_runs/filter": (401, 200),
    "POST /api/deployments/filter": (401, 200),
    "POST /api/work_pools/filter": (401, 200),
    "POST /api/block_documents/filter": (401, 200),
    "POST /api/variables/filter": (401, 200),
    "POST /api/logs/filter": (401, 200),
    "POST /api/artifacts/filter": (401, 200),
    "POST /api/automations/filter": (401, 200),
    "POST /api/events/filter": (401, 200),
    "POST /api/events": (401, 422),
}


@pytest.mark.parametrize("what", PREFECT)
def test_prefect_answers_with_its_credential_only(root: Path, up: Up, what: str) -> None:
    method, _, path = what.partition(" ")
    content = {} if method == "POST" else None
    anonymous, logged_in = PREFECT[what]
    assert _ask(_url(up, "Prefect") + path, None, content)[0] == anonymous
    if logged_in is not None:
        assert _ask(_url(up, "Prefect") + path, _logins(root)[1], content)[0] == logged_in


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_prefects_streams_want_the_credential_too(root: Path, up: Up, path: str) -> None:
    address = _url(up, "Prefect").replace("http://", "ws://") + path
    for token in (None, "admin:admin"):
        assert not _stream_opens(address, token)
    assert _stream_opens(address, _logins(root)[1])


def _stream_opens(address: str, token: str | None) -> bool:
    """Whether a stream takes this log-in."""
    with connect(address, subprotocols=["prefect"], proxy=None) as stream:
        stream.send(json.dumps({"type": "auth", "token": token}))
        try:
            return json.loads(stream.recv(timeout=10))["type"] == "auth_success"
        except ConnectionClosed:
            return False


def test_databases_are_postgresql_where_it_can_be(root: Path, up: Up) -> None:
    installed = postgres.find(root / ".vggflow/stack")
    if installed is None or not installed.has_trigrams:
        pytest.skip("no PostgreSQL with pg_trgm here")
    server = next(each for each in up.below() if each.name() == "postgres")
    assert server.uids().real != 0
    assert (root / ".vggflow/stack/postgres/PG_VERSION").exists()
    assert not list((root / ".vggflow/stack").glob("**/*.db"))


def test_no_password_is_open_to_others(root: Path, up: Up) -> None:
    folder = root / ".vggflow/stack"
    passwords = list(json.loads((folder / "passwords.json").read_text()).values())
    for process in up.below():
        assert not [word for word in process.cmdline() for each in passwords if each in word], process
    assert not [line for line in up.lines for each in passwords if each in line]
    for path in [*folder.glob("*"), *folder.glob("log/*")]:
        if path.is_file() and any(each in path.read_text(errors="replace") for each in passwords):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_servers_listen_on_this_machine_only(up: Up) -> None:
    heard = [
        connection.laddr.ip
        for process in up.below()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(heard) >= 3
    assert set(heard) == {"127.0.0.1"}


def test_a_second_up_is_refused_in_one_line(root: Path, up: Up) -> None:
    ran = _run(root, "up")
    assert ran.returncode == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "run already" in ran.stderr


def test_commands_find_the_servers_by_themselves(root: Path, up: Up) -> None:
    ran = _run(root, "models")
    assert (ran.returncode, "no models yet" in ran.stdout) == (0, True), ran.stderr
    assert not (root / ".vggflow/mlflow.db").exists()


def test_a_worker_that_is_killed_comes_back(root: Path, up: Up) -> None:
    def workers() -> list[psutil.Process]:
        living = (each for each in up.below() if each.status() != psutil.STATUS_ZOMBIE)
        return [each for each in living if "worker" in each.cmdline()]

    first = workers()[0]
    first.kill()
    _wait(lambda: (now := workers()) and now[0].pid != first.pid)
    assert "worker was ended by signal 9: starting it again" in (root / "up.log").read_text()


def test_a_database_that_is_killed_comes_back_with_its_data(root: Path, up: Up) -> None:
    server = next((each for each in up.below() if each.name() == "postgres"), None)
    if server is None:
        pytest.skip("no PostgreSQL here")
    person, login = _logins(root)
    search = (f"{_url(up, 'MLflow')}/api/2.0/mlflow/experiments/search", person, {"max_results": 10})
    server.kill()
    _wait(lambda: _ask(*search)[0] == 200 and _ask(f"{_url(up, 'Prefect')}/api/version", login)[0] == 200)
    assert "tiny-promotions" in _ask(*search)[1]
    assert "postgresql was ended by signal 9: starting it again" in (root / "up.log").read_text()


def test_ctrl_c_leaves_nothing_and_the_next_start_has_everything(root: Path, up: Up) -> None:
    mlflow, prefect = _url(up, "MLflow"), _url(up, "Prefect")
    person, login = _logins(root)
    text = _ask(f"{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tiny", person)[1]
    experiment = json.loads(text)["experiment"]["experiment_id"]
    run = _ask(
        f"{mlflow}/api/2.0/mlflow/runs/create", person, {"experiment_id": experiment, "run_name": "kept"}
    )
    assert run[0] == 200, run
    assert _ask(f"{prefect}/api/variables/", login, {"name": "kept", "value": 1})[0] == 201
    assert up.end(signal.SIGINT) == []
    assert up.process.returncode == 0
    assert _run(root, "models").returncode == 1
    again = _up(root)
    try:
        assert again.lines == up.lines
        found = _ask(f"{mlflow}/api/2.0/mlflow/runs/search", person, {"experiment_ids": [experiment]})
        assert "kept" in found[1]
        assert _ask(f"{prefect}/api/variables/name/kept", login)[0] == 200
    finally:
        assert again.end(signal.SIGKILL) == []


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    """A workspace whose servers never ran."""
    write_params(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


def test_a_taken_port_is_one_clear_line(idle: Path) -> None:
    port = open_place(Workspace(idle)).choices.ports["prefect"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        ran = _run(idle, "up")
    assert ran.returncode == 1
    assert f"port {port}" in ran.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_a_database_whose_program_is_gone_is_not_replaced_by_an_empty_one(idle: Path) -> None:
    open_place(Workspace(idle))
    path = idle / ".vggflow/stack/choices.json"
    files.write_json(path, json.loads(path.read_text()) | {"database": 9})
    ran = _run(idle, "up")
    assert ran.returncode == 2
    assert "PostgreSQL 9" in ran.stderr.strip().splitlines()[-1]


def _wait(true: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.3)
