"""The cheap request for the champion: what servers, SQLite and neither answer."""

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from vggflow.tracking.registry import champion_alias
from vggflow.tracking.registry.champion_alias import AskMLflow, Away, Champion, ask

ANSWER = {
    "model_version": {
        "name": "pets",
        "version": "7",
        "tags": [{"key": "sha256.onnx", "value": "ab12"}, {"key": "accuracy", "value": "0.9"}],
    }
}
NOBODY = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered model alias champion not found."}


@dataclass
class Server:
    """A server that gives one answer, and what it was asked."""

    uri: str = ""
    status: int = 200
    body: bytes = b""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append((self.path, self.headers["Authorization"]))
            self.send_response(told.status)
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=made.serve_forever, daemon=True).start()
    told.uri = f"http://127.0.0.1:{made.server_port}"
    yield told
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No log-in but what a test names."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setattr(champion_alias, "CREDENTIALS", tmp_path / "credentials")
    monkeypatch.setattr(champion_alias, "SECONDS", 1)


def test_a_server_names_the_champion_and_its_graph(server: Server) -> None:
    server.body = json.dumps(ANSWER).encode()
    assert ask(f"{server.uri}/", "pets & dogs") == Champion(7, "ab12")
    path, told = server.asked[0]
    assert path == "/api/2.0/mlflow/registered-models/alias?name=pets+%26+dogs&alias=champion"
    assert told is None


@pytest.mark.parametrize(
    ("variables", "file", "told"),
    [
        ({"USERNAME": "ann", "PASSWORD": "x"}, "", "Basic YW5uOng="),
        ({}, "[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = x\n", "Basic YW5uOng="),
        ({"TOKEN": "t"}, "", "Bearer t"),
    ],
)
def test_whoever_may_ask_says_who_asks(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    file: str,
    told: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    (tmp_path / "credentials").write_text(file)
    server.body = json.dumps(ANSWER).encode()
    assert ask(server.uri, "pets") == Champion(7, "ab12")
    assert server.asked[0][1] == told


def test_no_champion_is_told_from_an_answer_that_only_mlflow_can_explain(server: Server) -> None:
    server.status, server.body = 404, json.dumps(NOBODY).encode()
    assert ask(server.uri, "pets") is None
    for status, body in (
        (404, b"<h1>not here</h1>"),
        (401, b"{}"),
        (403, b'{"error_code": "X"}'),
        (200, b"[]"),
    ):
        server.status, server.body = status, body
        with pytest.raises(AskMLflow):
            ask(server.uri, "pets")
    server.status = 503
    with pytest.raises(Away, match=r"fails \(HTTP 503\)"):
        ask(server.uri, "pets")


def test_a_server_that_hangs_drips_or_is_gone_is_away_within_seconds() -> None:
    began = time.monotonic()
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        uri = f"http://127.0.0.1:{made.getsockname()[1]}"
        with pytest.raises(Away, match="does not answer within 1 s"):
            ask(uri, "pets")

        def drip() -> None:
            # The first is the connection of before, which nobody took.
            for _ in range(2):
                client = made.accept()[0]
            with suppress(OSError):  # who asked has given up
                for _ in range(100):
                    client.sendall(b"H")
                    time.sleep(0.2)

        Thread(target=drip, daemon=True).start()
        with pytest.raises(Away, match="does not answer within 1 s"):
            ask(uri, "pets")
    with pytest.raises(Away, match="can't be reached"):
        ask(uri, "pets")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "variable", ["MLFLOW_TRACKING_AUTH", "MLFLOW_WORKSPACE", "MLFLOW_TRACKING_AWS_SIGV4"]
)
def test_another_way_of_logging_in_is_mlflows_business(
    server: Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(AskMLflow):
        ask(server.uri, "pets")
    assert server.asked == []


def test_a_team_s_database_is_asked_by_mlflow() -> None:
    with pytest.raises(AskMLflow):
        ask("postgresql://127.0.0.1:9/mlflow", "pets")


def test_sqlite_is_asked_by_its_tables(versioned: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    database = tmp_path / "a folder" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes((versioned / ".vggflow" / "mlflow.db").read_bytes())
    uri = f"sqlite:///{database}"
    client = MlflowClient(uri, uri)
    assert ask(uri, "pets") is None
    for name, tags in (("pets", {"sha256.onnx": "ab12"}), ("pets", {}), ("dogs", {"sha256.onnx": "cd"})):
        if name not in [each.name for each in client.search_registered_models()]:
            client.create_registered_model(name)
        client.create_model_version(name, str(tmp_path), tags=tags)
    assert ask(uri, "pets") is None
    client.set_registered_model_alias("pets", "champion", "1")
    client.set_registered_model_alias("dogs", "challenger", "1")
    assert (ask(uri, "pets"), ask(uri, "dogs")) == (Champion(1, "ab12"), None)
    client.set_registered_model_alias("pets", "champion", "2")
    assert ask(uri, "pets") == Champion(2, "")
    client.delete_registered_model_alias("pets", "champion")
    assert ask(uri, "pets") is None


def test_what_is_no_database_of_mlflow_s_is_left_to_it_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(AskMLflow):
        ask(f"sqlite:///{tmp_path / 'nowhere.db'}", "pets")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "noise.db").write_bytes(b"no database" * 500)
    with pytest.raises(AskMLflow):
        ask(f"sqlite:///{tmp_path / 'noise.db'}", "pets")
    with closing(sqlite3.connect(tmp_path / "other.db")) as made:
        made.execute("CREATE TABLE other (x)")
    with pytest.raises(AskMLflow):
        ask(f"sqlite:///{tmp_path / 'other.db'}", "pets")


def test_a_database_that_another_program_locks_is_away(versioned: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes((versioned / ".vggflow" / "mlflow.db").read_bytes())
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Away, match="is locked by another program"):
            ask(f"sqlite:///{database}", "pets")
