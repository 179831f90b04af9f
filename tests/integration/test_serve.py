"""`vggflow serve` as people start it: a real server, a real registry, a browser."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from champion import another_champion
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from team import wait
from tiny import Ran

from vggflow import artifacts
from vggflow.workspace import Workspace

Command = Callable[..., Ran]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Served:
    """A running service."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def post(self, path: str, **how) -> httpx.Response:
        return httpx.post(f"{self.address}{path}", timeout=60, trust_env=False, **how)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=60, trust_env=False)

    def version(self, picture: Path) -> str:
        return self.post("/predict", content=picture.read_bytes()).json()["model"]["version"]


@contextmanager
def serve(here: Workspace, folder: Path, *options: str, token: str | None = None) -> Iterator[Served]:
    """From its line on standard output until SIGTERM, after which it has to end well."""
    log = folder / "serve.log"
    environment = os.environ | ({"VGGFLOW_SERVE_TOKEN": token} if token else {})
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(here.root), "serve", "--port", "0"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=errors, env=environment
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert " answers at http://" in line, log.read_text()
        yield Served(line.split(" answers at ")[1].split(":  ")[0].split(": a page")[0], process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def picture(here: Workspace) -> Path:
    return here.root / "data/test/red/0.png"


def test_the_champion_answers_as_predict_does_and_whoever_becomes_it_follows(
    vggflow: Command, here: Workspace, picture: Path, tmp_path: Path
) -> None:
    expected = json.loads(vggflow("-C", here.root, "predict", picture, "--json").out)[0]
    with serve(here, tmp_path, "--follow", "0.2") as served:
        assert served.get("/v2/health/ready").json() == {"ready": True}
        began = time.monotonic()
        answer = served.post("/predict", content=picture.read_bytes())
        assert time.monotonic() - began < 0.5
        assert answer.json()["model"] == {"name": "tiny", "version": "1"}
        row = answer.json()["predictions"][0]
        assert row["label"] == expected["label"]
        assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
        text = base64.b64encode(picture.read_bytes()).decode()
        question = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}]}
        infer = served.post("/v2/models/tiny/infer", json=question).json()
        assert infer["outputs"][1]["data"] == pytest.approx(list(row["probabilities"].values()), abs=1e-12)
        another_champion(here, graph=True)
        wait(lambda: served.version(picture) == "2", 30, "version 2 answers")
        assert "tiny version 2 answers from now on" in served.log.read_text()


@pytest.mark.slow
def test_while_the_registry_is_locked_or_broken_the_champion_goes_on_answering(
    here: Workspace, picture: Path, tmp_path: Path
) -> None:
    database = here.path(artifacts.MLFLOW_DATABASE)
    with serve(here, tmp_path, "--follow", "0.2") as served:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            wait(lambda: "is locked by another program" in served.log.read_text(), 60, "the lock is told")
            assert served.version(picture) == "1"
        wait(lambda: "answers again" in served.log.read_text(), 60, "the end of it is told")
        database.write_bytes(b"no database" * 100)
        wait(lambda: served.log.read_text().count("goes on answering") == 2, 60, "the damage is told")
        assert served.version(picture) == "1"


@pytest.mark.slow
def test_a_body_that_never_ends_and_a_client_that_is_silent_cost_others_nothing(
    here: Workspace, picture: Path, tmp_path: Path
) -> None:
    with serve(here, tmp_path, "--seconds", "1") as served:
        host, port = served.address.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)))) as endless:
            endless.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n12345"
            )
            assert served.version(picture) == "1"
            endless.settimeout(20)
            assert b"503" in endless.recv(100)
            with closing(socket.create_connection((host, int(port)))) as broken:
                broken.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n12345"
                )
            # Told and closed: whoever goes on sending is not read for ever.
            while endless.recv(10_000):
                pass


def test_what_can_t_be_served_is_told_in_one_line(vggflow: Command, here: Workspace) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = vggflow("-C", here.root, "serve", "--port", port)
    assert ran.code == 2 and f"can't listen on 127.0.0.1:{port}" in ran.err
    ran = vggflow("-C", here.root, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert ran.code == 2 and "set VGGFLOW_SERVE_TOKEN" in ran.err
    ran = vggflow("-C", here.root, "serve", "--port", "0", "--model", "nobody")
    assert ran.code == 2 and "no model 'nobody'" in ran.err
    for each in (ran,):
        assert len(each.err.splitlines()) == 1


def test_without_a_champion_it_says_so(vggflow: Command, workspace: Path) -> None:
    ran = vggflow("-C", workspace, "serve", "--port", "0")
    assert ran.code == 2 and len(ran.err.splitlines()) == 1 and "champion" in ran.err


@pytest.mark.slow
def test_a_model_file_is_served_without_a_registry(here: Workspace, picture: Path, tmp_path: Path) -> None:
    graph = tmp_path / "mine.onnx"
    with serve(here, tmp_path) as served:
        served.version(picture)
    shutil.copy(next(here.path(artifacts.STATE / "champion").glob("*.onnx")), graph)
    with serve(here, tmp_path, "--model", str(graph), token="secret") as served:  # noqa: S106
        bearer = {"authorization": "Bearer secret"}
        answer = served.post("/predict", content=picture.read_bytes(), headers=bearer)
        assert answer.json()["model"] == {"name": "mine", "version": ""}
        refused = served.post("/explain", content=picture.read_bytes(), headers=bearer)
        assert refused.status_code == 404 and "need a .keras file" in refused.json()["error"]
        assert served.post("/predict", content=picture.read_bytes()).status_code == 401


@pytest.mark.slow
def test_heat_maps_are_drawn_by_a_process_that_ends_with_the_service(
    here: Workspace, picture: Path, tmp_path: Path
) -> None:
    import psutil

    with serve(here, tmp_path) as served:
        for _ in range(2):
            said = served.post("/explain", content=picture.read_bytes()).json()
            prefix, encoded = said["picture"].split(",")
            assert prefix == "data:image/jpeg;base64"
            assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (160, 160)
        below = psutil.Process(served.process.pid).children(recursive=True)
        assert len(below) == 1
        bad = served.post("/explain", content=b"no image")
        assert bad.status_code == 422
    psutil.wait_procs(below, 10)
    assert not below[0].is_running()


@pytest.mark.slow
def test_an_image_dropped_on_the_page_is_answered_and_explained(
    here: Workspace, picture: Path, tmp_path: Path
) -> None:
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:50])
    with serve(here, tmp_path, token="secret") as served, sync_playwright() as browsers:  # noqa: S106
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"]
        )
        page = browser.new_page(viewport={"width": 900, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(served.address)
        page.set_input_files("#files", picture)
        expect(page.get_by_label("This service asks for a token")).to_be_visible()
        page.get_by_label("This service asks for a token").fill("secret")
        page.set_input_files("#files", [picture, broken])
        expect(page.get_by_role("heading", name="red")).to_be_visible()
        expect(page.get_by_text("0.png, tiny version 1")).to_be_visible()
        expect(page.get_by_text("not a readable image")).to_be_visible()
        page.get_by_role("button", name="Where did it look?").click()
        expect(page.get_by_alt_text("heat map of red")).to_be_visible(timeout=60_000)
        if folder := os.environ.get("VGGFLOW_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "serve.png")
        assert not [line for line in said if "Content Security Policy" in line]
        browser.close()
