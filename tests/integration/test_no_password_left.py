"""Nothing that a run leaves holds a password: output, outcomes, history, databases with their journals, git, models."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from team import Program, answers, wait
from tiny import Ran, draw_data

from vggflow.processes import servers
from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Each with a character that addresses spell in another way.
TRACKING, GIT, DVC = "Pferd/Batterie-77", "Heft/Klammer-88", "Korrekt/Wasser-99"
# Where a person wrote the addresses down.
THEIR_OWN = ("/.git/config", "/.dvc/config.local")
COMMANDS = (
    ("validate",),
    ("models",),
    ("status",),
    ("doctor",),
    ("promote", "--reason", "better"),
    ("rollback", "--reason", "worse"),
)
SECONDS_FOR_A_RUN = 500.0


def spellings(password: str) -> list[bytes]:
    """A password as it is, as addresses write it, and as HTTP sends it."""
    sent = b64encode(f"ann:{password}".encode())
    return [password.encode(), quote(password, safe="").encode(), sent]


def address(password: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://ann:{quote(password, safe='')}@127.0.0.1:{port}"


def findings(folder: Path) -> list[str]:
    """The files below a folder, and the members of archives, that hold a password."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or str(path).endswith(THEIR_OWN):
            continue
        texts = {"": path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                texts |= {name: archive.read(name) for name in archive.namelist()}
        found += [f"{path}:{name}" for name, text in texts.items() if held(text)]
    return found


def held(text: bytes) -> list[bytes]:
    return [form for password in (TRACKING, GIT, DVC) for form in spellings(password) if form in text]


def committed(root: Path) -> bytes:
    """All that git keeps, unpacked."""
    command = ["git", "log", "--all", "--patch", "--format=fuller", "--text"]
    return subprocess.run(command, cwd=root, capture_output=True, check=True).stdout


def run(root: Path, *arguments: str, until: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
    """The command line as a program; told to end where it says one of `until`, since flows try again for minutes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments],
        env=os.environ
        | {"VGGFLOW_STATE": str(root.with_name("state")), "PYTHONUNBUFFERED": "1"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(SECONDS_FOR_A_RUN, process.kill)
    guard.start()
    said = ""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said += line
            if any(sign in line for sign in until):
                until = ()
                time.sleep(2)  # Prefect sends logs to its database a moment later
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.wait()
    finally:
        guard.cancel()
        process.kill()
    return process.returncode, said


@pytest.fixture
def root(evaluated: Path, tmp_path: Path) -> Path:
    """A workspace whose git remote is an address with a password, on a port where nobody listens."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    port = servers.free_ports(1)[0]
    Workspace(root).git("remote", "add", "origin", f"{address(GIT, port, 'https')}/pets.git")
    return root


@pytest.fixture
def here(root: Path, vggflow: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command said, run in this process: a process each would spend a minute on imports."""
    monkeypatch.setenv("VGGFLOW_STATE", str(root.with_name("state")))

    def run(*arguments: str) -> str:
        ran = vggflow("-C", str(root), *arguments)
        return f"{ran.out}{ran.err}"

    return run


@contextmanager
def nobody() -> Iterator[int]:
    """A port that is closed."""
    yield servers.free_ports(1)[0]


@contextmanager
def refusing() -> Iterator[int]:
    """A server that lets nobody in, and says what it was asked."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = f"not you: {self.headers.get('Authorization')} for {self.path}".encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815 (names of the standard library)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def hanging_up() -> Iterator[int]:
    """A server that ends each connection without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            try:
                while True:
                    listening.accept()[0].close()
            except OSError:
                return

        threading.Thread(target=hang_up, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("server", [nobody, refusing, hanging_up])
def test_commands_that_fail_at_mlflow_leave_no_password(
    server: object, root: Path, here: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with server() as port:  # type: ignore[operator]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address(TRACKING, port))
        said = {command[0]: here(*command) for command in COMMANDS}
    # Each came as far as the server, so that there was something to hide.
    assert {name for name, text in said.items() if f"127.0.0.1:{port}" not in text} == set(), said
    _nothing_held(said, root)


@pytest.mark.parametrize("server", [nobody, refusing, hanging_up])
def test_a_retraining_that_fails_at_mlflow_leaves_no_password(server: object, root: Path) -> None:
    with server() as port:  # type: ignore[operator]
        uri = address(TRACKING, port)
        said = {"retrain": run(root, "retrain", until=(f"127.0.0.1:{port}",), MLFLOW_TRACKING_URI=uri)[1]}
    assert f"127.0.0.1:{port}" in said["retrain"], said
    assert (root / ".vggflow/prefect").is_dir()
    _nothing_held(said, root)


def _nothing_held(said: dict[str, str], root: Path) -> None:
    assert {name for name, text in said.items() if held(text.encode())} == set(), said
    assert findings(root.parent) == []
    assert held(committed(root)) == []


def test_a_retraining_that_fails_at_the_dvc_remote_leaves_no_password(root: Path) -> None:
    port = servers.free_ports(1)[0]
    there = f"{address(DVC, port)}/store"
    Workspace(root).dvc("remote", "modify", "--local", "local", "url", there)
    _, retrained = run(root, "retrain", until=("Retry", "retry"))
    assert "nothing is registered before the DVC remote has data and model" in retrained
    delivery = draw_data(root.parent / "delivery", train=9)
    commands = (("data", "import", str(delivery)), ("data", "pull"), ("doctor",))
    said = {" ".join(command[:2]): run(root, *command)[1] for command in commands}
    assert not held(retrained.encode()), retrained
    assert {name for name, text in said.items() if held(text.encode())} == set(), said
    assert findings(root.parent) == []
    assert held(committed(root)) == []


def test_a_git_remote_that_fails_leaves_no_password(root: Path) -> None:
    port = servers.free_ports(1)[0]
    there = {"PREFECT_API_URL": f"{address(TRACKING, port)}/api"}
    delivery = draw_data(root.parent / "delivery", train=9)
    said = {
        "data import": run(root, "data", "import", str(delivery))[1],
        "deploy": run(root, "deploy", **there)[1],
        "status": run(root, "status", **there)[1],
    }
    assert "pets.git" in said["data import"] + said["deploy"], said
    assert {name for name, text in said.items() if held(text.encode())} == set(), said
    assert findings(root.parent) == []
    assert held(committed(root)) == []


@contextmanager
def mlflow_with_users(folder: Path) -> Iterator[int]:
    """MLflow as a team has it; `ann` is its administrator."""
    folder.mkdir()
    port = servers.free_ports(1)[0]
    users = folder / "auth.ini"
    users.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n")
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_USERNAME": "ann",
        "MLFLOW_AUTH_ADMIN_PASSWORD": TRACKING,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test alone",
    }
    places = (
        "--backend-store-uri",
        f"sqlite:///{folder}/runs.db",
        "--artifacts-destination",
        str(folder / "files"),
    )
    server = (
        "server",
        "--app-name",
        "basic-auth",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    )
    command = [sys.executable, "-m", "mlflow", *server, *places]
    program = Program(command, folder, {**os.environ, **given}, folder / "server.log")
    try:
        program.start()
        wait(lambda: answers(f"http://127.0.0.1:{port}/health"), 180, "MLflow answers")
        yield port
    finally:
        program.stop()


def test_a_retraining_that_succeeds_leaves_no_password_in_mlflow_or_anywhere(root: Path) -> None:
    store = root.with_name("mlflow")
    with mlflow_with_users(store) as port:
        uri = {"MLFLOW_TRACKING_URI": address(TRACKING, port)}
        code, said = run(root, "retrain", **uri)
        assert code == 0, said
        listed = run(root, "models", "--json", **uri)[1]
    assert "champion" in listed
    assert not held((said + listed).encode()), said
    assert any((store / "files").rglob("*.keras")), "its artifacts are looked through too"
    assert findings(root.parent) == []
    assert held(committed(root)) == []
