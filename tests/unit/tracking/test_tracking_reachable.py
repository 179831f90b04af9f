"""How long a person waits for MLflow where it is down, hangs, fails or its database is locked: seconds."""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from vggflow.environment import PATIENT
from vggflow.tracking import reachable


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of something that accepts and never answers."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield int(made.getsockname()[1])


@pytest.fixture
def closed() -> int:
    """A port at which nothing listens."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture(params=[200, 401, 503])
def mlflow_errors_as_one_line(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The port of a server, and the only status that it knows."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()
            self.wfile.write(b'{"message":\n "database is away"}')

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_port, request.param
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_a_server_that_hangs_is_told_from_one_that_is_away(listening: int, closed: int, scheme: str) -> None:
    began = time.monotonic()
    hanging = reachable.problem(f"{scheme}://127.0.0.1:{listening}/mlflow", seconds=1)
    away = reachable.problem(f"{scheme}://127.0.0.1:{closed}/mlflow", seconds=1)
    assert time.monotonic() - began < 6
    assert hanging == "does not answer within 1 s"
    assert "can't be reached" in away and "refused" in away and "\n" not in away


def test_a_server_that_sends_a_byte_a_second_is_not_waited_for() -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()

        def drip() -> None:
            with made.accept()[0] as client:
                for _ in range(20):
                    client.send(b"H")
                    time.sleep(0.5)

        Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        assert reachable.problem(f"http://127.0.0.1:{made.getsockname()[1]}", seconds=1)
        assert time.monotonic() - began < 5


def test_a_refusal_is_an_answer_and_a_failure_is_told_at_once(
    mlflow_errors_as_one_line: tuple[int, int],
) -> None:
    port, status = mlflow_errors_as_one_line
    said = reachable.problem(f"http://127.0.0.1:{port}")
    assert said == ('fails (HTTP 503: {"message": "database is away"})' if status == 503 else "")


def test_a_locked_sqlite_is_told_within_seconds_and_a_new_one_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    assert reachable.problem(f"sqlite:///{path}") == "" and not path.exists()
    with sqlite3.connect(path) as locked:
        locked.execute("create table experiments (id int)")
        locked.commit()
        assert reachable.problem(f"sqlite:///{path}") == ""
        locked.execute("begin exclusive")
        began = time.monotonic()
        assert reachable.problem(f"sqlite:///{path}") == reachable.BY_ANOTHER
        assert time.monotonic() - began < 10


def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("no database " * 100)
    assert "not a database" in reachable.problem(f"sqlite:///{path}")


@pytest.mark.parametrize("name", [PATIENT, reachable.PREFECT_RUN])
def test_a_flow_is_not_told_since_it_waits_itself(
    closed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert reachable.problem(f"http://127.0.0.1:{closed}") == ""


@pytest.mark.parametrize("name", [PATIENT, reachable.PREFECT_RUN])
def test_a_flow_that_somebody_waits_for_is_told_and_is_patient_again_afterwards(
    closed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with reachable.impatient():
        assert "can't be reached" in reachable.problem(f"http://127.0.0.1:{closed}")
        assert reachable.RETRIES in os.environ
    assert os.environ[name] == "1"
    assert reachable.RETRIES not in os.environ
