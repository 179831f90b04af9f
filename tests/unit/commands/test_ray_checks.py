"""What `vggflow doctor` says of Ray where there is none, or something else in its place."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from vggflow import cluster
from vggflow.commands import ray_checks
from vggflow.commands.findings import Finding
from vggflow.processes import ray_head

TOKEN = "0123456789abcdef" * 4
NOT_SET = Finding("Ray", "ok", "RAY_ADDRESS is not set: the work of a run stays on this machine")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and no head of somebody else on this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_head, "sockets_here", lambda: iter(()))
    return tmp_path


@contextmanager
def answering(reply: bytes, token: str = "") -> Iterator[str]:
    """A server of gRPC that answers at the method of Ray's head, as one of that version does; yields its address."""

    def alive(_request: bytes, context: Any) -> bytes:
        if token and ("authorization", f"Bearer {token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return reply

    service, method = ray_head.ALIVE[0].strip("/").split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(alive)}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler] if reply else [])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def found(monkeypatch: pytest.MonkeyPatch, address: str) -> dict[str, Finding]:
    monkeypatch.setenv("RAY_ADDRESS", address)
    return {each.check: each for each in ray_checks.checks()}


def test_without_an_address_nothing_of_ray_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from vggflow.commands import ray_checks; print([f.found for f in ray_checks.checks()]);"
        "sys.exit(bool({'ray', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert NOT_SET.found in done.stdout


def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a config map gives it."""
    assert found(monkeypatch, "") == {"Ray": NOT_SET}


@pytest.mark.parametrize(
    "address", ["auto", "local", "10.0.0.1", "ray://head", "http://head:8265", "head:gcs", ":6379"]
)
def test_what_is_no_address_is_told_with_what_would_be_one(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    (finding,) = found(monkeypatch, address).values()
    assert (finding.health, finding.found) == ("wrong", f"RAY_ADDRESS is '{address}'")
    assert "HOST:PORT" in finding.advice


def test_an_address_without_ray_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(ray_checks, "version", nothing)
    (finding,) = found(monkeypatch, "127.0.0.1:6379").values()
    assert (finding.health, finding.found) == ("wrong", "RAY_ADDRESS is set, and Ray is not installed")
    assert "pip install 'vggflow[ray]'" in finding.advice


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_closed_port_is_told(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (finding,) = found(monkeypatch, f"{scheme}127.0.0.1:{port}").values()
    assert finding.health == "wrong"
    assert "Connection refused" in finding.found and "\n" not in finding.found


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr(ray_head, "SECONDS_TO_ANSWER", 0.5)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (finding,) = found(monkeypatch, f"{scheme}127.0.0.1:{silent.getsockname()[1]}").values()
    assert finding.health == "wrong" and finding.found.startswith("no Ray answers at ")
    assert time.monotonic() - began < 5  # gRPC itself gives up after 20


def test_a_server_of_http_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the dashboard's port, which people take for Ray's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        (finding,) = found(monkeypatch, f"127.0.0.1:{server.server_port}").values()
    finally:
        server.shutdown()
        server.server_close()
    assert finding.health == "wrong" and finding.found.startswith("no Ray answers at ")


def test_another_server_of_grpc_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"") as address:
        (finding,) = found(monkeypatch, address).values()
    assert finding.health == "wrong" and finding.found.startswith(f"no Ray answers at {address} (")


def test_another_version_of_ray_is_told_and_its_nodes_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", f"{TOKEN}\n")  # as a secret made from a file has it
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which Ray does not use either
    with answering(b"\n\x00\x12\x062.52.1 \x01", TOKEN) as address:
        checks = found(monkeypatch, address)
    assert checks["Ray's token"].health == "ok"
    assert (checks["Ray"].health, checks["Ray"].found) == (
        "wrong",
        f"2.52.1 at {address}, {version('ray')} here",
    )
    assert "Ray's nodes" not in checks


def test_a_token_that_is_none_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "gehört-nicht-hierher")
    with answering(b"\n\x00\x12\x062.60.0 \x01", TOKEN) as address:
        (finding,) = found(monkeypatch, address).values()
    assert (
        finding.health == "wrong"
        and "does not take that of RAY_AUTH_TOKEN (Invalid metadata)" in finding.found
    )
    assert "gehört" not in str(finding)


def test_a_token_never_goes_to_a_cluster_that_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setattr(cluster, "nodes", list)
    asked = ray_head.ask
    monkeypatch.setattr(ray_head, "ask", lambda *given: seen.append(given) or asked(*given))
    with answering(f"\n\x00\x12\x06{version('ray')} \x01".encode()) as address:
        checks = found(monkeypatch, address)
    assert seen == [(address,)]
    assert checks["Ray's token"].health == "wrong" and "CVE-2023-48022" in checks["Ray's token"].found
    assert checks["Ray's nodes"].found == "none has cores to work with"


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True)]
)
@pytest.mark.parametrize("variable", [True, False])
def test_a_token_s_file_that_others_may_read_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_told: bool, variable: bool
) -> None:
    path = home / "elsewhere" if variable else home / ".ray" / "auth_token"
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOKEN)
    path.chmod(mode)
    if variable:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    told = {each.check: each for each in ray_checks.checks()}.get("Ray's token file")
    assert (told is not None) is is_told
    if told:
        assert told.health == "wrong" and f"chmod 600 {path}" in told.advice and TOKEN not in str(told)


@pytest.mark.parametrize(
    ("bound", "asked", "local"),
    [
        (("0.0.0.0", 6379), "127.0.0.1:6379", False),  # noqa: S104
        (("::", 6379), "127.0.0.1:6379", False),
        (("::ffff:127.0.0.1", 6379), "127.0.0.1:6379", True),
        (("127.0.0.1", 6379), "127.0.0.1:6379", True),
        (("::1", 6379), "[::1]:6379", True),
        (("::ffff:10.0.0.5", 6379), "10.0.0.5:6379", False),
        (("10.0.0.5", 6379), "10.0.0.5:6379", False),
    ],
)
def test_what_a_head_is_bound_to_says_who_reaches_it(
    monkeypatch: pytest.MonkeyPatch, bound: tuple[str, int], asked: str, local: bool
) -> None:
    monkeypatch.undo()
    mine = SimpleNamespace(pid=7, status="LISTEN", laddr=bound)
    others = SimpleNamespace(pid=8, status="LISTEN", laddr=("0.0.0.0", 1))  # noqa: S104
    monkeypatch.setattr(
        ray_head.psutil, "process_iter", lambda: [SimpleNamespace(pid=7, name=lambda: "gcs_server")]
    )
    monkeypatch.setattr(ray_head.psutil, "net_connections", lambda _kind: [others, mine])
    (found,) = ray_head.sockets_here()
    assert (found.address, found.local) == (asked, local)
