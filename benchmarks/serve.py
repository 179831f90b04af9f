"""A champion over HTTP: `python -m benchmarks.serve [--seconds N] [--workspace DIR] [--json]`.

One champion (of the workspace, else of the demo's) answers through `mlflow models serve` and through `vggflow serve`,
to 8 clients that wait for each answer. Then `vggflow serve` answers for two minutes while others send garbage (no
images, deep JSON, pictures that say they are huge, bodies that break off, addresses that are not there) and the alias
`champion` moves twice. A miss ends with exit code 1.
"""

import argparse
import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks.training import Row, row, show_all
from vggflow import artifacts
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.workspace import Workspace, find

CLIENTS, GARBAGE_CLIENTS = 8, 2
SECONDS_OF_RATE, SECONDS_OF_LOAD = 20.0, 120.0
RATE, PAUSE_S, FIRST_S = 1.5, 1.0, 0.5


@dataclass
class Answers:
    """What clients were told, and when."""

    seconds: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """A running server."""

    port: int
    path: str
    kind: str
    process: psutil.Process

    def question(self, image: bytes) -> bytes:
        """The body that asks about an image."""
        if self.path == "/predict":
            return image
        return json.dumps({"inputs": [base64.b64encode(image).decode()]}).encode()

    def memory(self) -> float:
        """Of the server and what it started, in bytes."""
        every = [self.process, *self.process.children(recursive=True)]
        return float(sum(each.memory_info().rss for each in every))


def make_workspace(folder: Path) -> Path:
    """The demo's, with two champions."""
    root = folder / "digits"
    command = [sys.executable, "-m", "vggflow.cli", "demo", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return root


def pictures(workspace: Workspace) -> list[bytes]:
    """The test images, as they lie there."""
    paths = sorted((workspace.path(artifacts.DATA) / "test").glob("*/*"))
    return [path.read_bytes() for path in paths if path.is_file()][:200]


@contextmanager
def vggflow_serve(workspace: Workspace) -> Iterator[Target]:
    """From its line on, as a user starts it."""
    (port,) = servers.free_ports(1)
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(workspace.root), "serve", "--port", str(port)]
    with _running([*command, "--follow", "1"], subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Target(port, "/predict", "application/octet-stream", psutil.Process(process.pid))


@contextmanager
def mlflow_serve(workspace: Workspace, name: str) -> Iterator[Target]:
    """Until it says that it is well."""
    (port,) = servers.free_ports(1)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}@champion"]
    options = ["-p", str(port), "-h", "127.0.0.1", "--env-manager", "local"]
    database = workspace.path(artifacts.MLFLOW_DATABASE)
    where = {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{database}")}
    with _running([*command, *options], subprocess.DEVNULL, where) as process:
        while not servers.answers(f"http://127.0.0.1:{port}/ping"):
            if process.poll() is not None:
                sys.exit("mlflow models serve ended at once")
            time.sleep(0.2)
        yield Target(port, "/invocations", "application/json", psutil.Process(process.pid))


@contextmanager
def _running(
    command: Sequence[str], output: int, more: dict[str, str] | None = None
) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | (more or {}),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask_for(target: Target, images: Sequence[bytes], seconds: float, clients: int = CLIENTS) -> Answers:
    """Clients that ask again as soon as they are answered, each on a connection of its own."""
    told, lock, ends = Answers(), threading.Lock(), time.monotonic() + seconds

    def client(number: int) -> None:
        connection_ = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        questions = [target.question(image) for image in images]
        place = number
        while time.monotonic() < ends:
            began = time.monotonic()
            try:
                connection_.request(
                    "POST", target.path, questions[place % len(questions)], {"content-type": target.kind}
                )
                answer = connection_.getresponse()
                said = answer.read()
                problem = "" if answer.status == 200 else f"{answer.status} {said[:100]!r}"
                version = answer.getheader("x-vggflow-model", "")
            except OSError as error:
                problem, version = repr(error), ""
                connection_.close()
            ended = time.monotonic()
            with lock:
                if problem:
                    told.errors.append(problem)
                else:
                    told.seconds.append(ended - began)
                    told.at.append(ended)
                    told.versions.add(version)
            place += clients

    with ThreadPoolExecutor(clients) as threads:
        for future in [threads.submit(client, number) for number in range(clients)]:
            future.result()
    return told


def garbage(target: Target, ended: threading.Event, image: bytes) -> int:
    """Sends what is no question, one after the other; how many."""
    chance, sent = random.Random(0), 0
    head = b"\x89PNG\r\n\x1a\n"
    content = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + content))
    huge = head + struct.pack(">I", len(content)) + b"IHDR" + content + crc
    infer = "/v2/models/any/infer"
    kinds: list[Callable[[], tuple[str, bytes]]] = [
        lambda: ("/predict", chance.randbytes(chance.randrange(100_000))),
        lambda: ("/predict", image[: len(image) // 2]),
        lambda: ("/predict", huge),
        lambda: (infer, b"[" * 100_000),
        lambda: (
            infer,
            b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["%%%"]}]}',
        ),
        lambda: (f"/{chance.randrange(10**9)}", b""),
    ]
    while not ended.is_set():
        path, body = chance.choice(kinds)()
        with suppress(OSError, http.client.HTTPException):
            if chance.random() < 0.1:
                with socket.create_connection(("127.0.0.1", target.port), timeout=10) as broken:
                    broken.sendall(
                        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc"
                    )
            else:
                asked = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
                asked.request("POST", path, body)
                asked.getresponse().read()
                asked.close()
        sent += 1
    return sent


def switch(workspace: Workspace) -> None:
    """The alias moves to the other one of two versions."""
    registry = connection.connect(workspace)
    client, name = registry.client, registry.names.name
    now = client.get_model_version_by_alias(name, "champion")
    if len(client.search_model_versions(f"name='{name}'")) == 1:
        client.create_model_version(
            name, now.source, run_id=now.run_id, model_id=now.model_id, tags=dict(now.tags)
        )
    client.set_registered_model_alias(name, "champion", "2" if str(now.version) == "1" else "1")


def measure(root: Path, seconds: float) -> Iterator[Row]:
    """All figures."""
    workspace = find(root)
    images, name = pictures(workspace), workspace.settings().registry.name
    rate_seconds = min(SECONDS_OF_RATE, seconds)
    with mlflow_serve(workspace, name) as target:
        ask_for(target, images, 2)
        theirs = ask_for(target, images, rate_seconds)
        yield from _told("mlflow models serve", theirs, rate_seconds)
        yield row("mlflow models serve: MiB", target.memory() / 2**20, None, least=False)
    with vggflow_serve(workspace) as target:
        began = time.monotonic()
        first = ask_for(target, images, 0.001, 1)
        yield row("first answer after ready: s", time.monotonic() - began, FIRST_S, least=False)
        yield row("its errors", len(first.errors), 0, least=False)
        ask_for(target, images, 2)
        ours = ask_for(target, images, rate_seconds)
        yield from _told("vggflow serve", ours, rate_seconds)
        yield row("vggflow serve: MiB", target.memory() / 2**20, None, least=False)
        yield row("rate, times that of mlflow", len(ours.at) / max(1, len(theirs.at)), RATE, least=True)
        yield from _under_load(workspace, target, images, seconds)


def _told(what: str, answers: Answers, seconds: float) -> Iterator[Row]:
    yield row(f"{what}: images/s", len(answers.at) / seconds, None, least=True)
    for percent in (50, 99):
        yield row(
            f"{what}: p{percent}, ms",
            float(np.percentile(answers.seconds, percent)) * 1000,
            None,
            least=False,
        )
    yield row(f"{what}: errors", len(answers.errors), 0, least=False)


def _under_load(
    workspace: Workspace, target: Target, images: Sequence[bytes], seconds: float
) -> Iterator[Row]:
    ended, before = threading.Event(), target.memory()
    with ThreadPoolExecutor(GARBAGE_CLIENTS + 1) as threads:
        senders = [threads.submit(garbage, target, ended, images[0]) for _ in range(GARBAGE_CLIENTS)]
        switching = threads.submit(_switch_twice, workspace, seconds)
        answers = ask_for(target, images, seconds)
        ended.set()
        switching.result()
        sent = sum(each.result() for each in senders)
    pauses = np.diff(np.sort(answers.at))
    yield row("requests of garbage meanwhile", sent, None, least=True)
    yield from _told("under load", answers, seconds)
    yield row("under load: longest pause between answers, s", float(pauses.max()), PAUSE_S, least=False)
    yield row("versions that answered", len(answers.versions), 2, least=True)
    yield row("memory after it, times that before", target.memory() / before, None, least=False)


def _switch_twice(workspace: Workspace, seconds: float) -> None:
    for _ in range(2):
        time.sleep(seconds / 3)
        switch(workspace)


def main(arguments: list[str] | None = None) -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--workspace", type=Path, help="one with a champion; else the demo is made")
    parser.add_argument("--seconds", type=float, default=SECONDS_OF_LOAD, help="of load")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = given.workspace or make_workspace(Path(folder))
        if given.workspace:
            # Its alias moves: in a copy, nobody else's champion.
            root = Path(shutil.copytree(given.workspace, Path(folder) / given.workspace.name, symlinks=True))
        return show_all(
            measure(root, given.seconds), judged=given.seconds >= SECONDS_OF_LOAD, as_json=given.json
        )


if __name__ == "__main__":
    sys.exit(main())
