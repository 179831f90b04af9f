"""`data pack` and `data unpack`, killed again and again: the data are the same after every kill, and in the end."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggflow.data import layout
from vggflow.data.contents import Contents
from vggflow.data.places import shards
from vggflow.workspace import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IMAGES, SIDE_PX = 500, 90  # 24 KB each: twelve shards of a megabyte
KILLS = 8
PROGRAM = Path(sys.executable).with_name("vggflow")


def _held(data: Path) -> dict[str, str]:
    """Every image, and its bytes' hash, whatever it lies in."""
    contents = Contents(data)
    loose = [entry.path for entry in layout.walk(data) if entry.kind == "file"]
    names = {*contents.members["path"], *loose}
    return {name: hashlib.sha256(contents.place(name).read()).hexdigest() for name in names}


def _command(root: Path, *what: str) -> "subprocess.Popen[bytes]":
    command = [str(PROGRAM), "-C", str(root), "data", *what, "--no-commit"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


@pytest.fixture(scope="module")
def root(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packing") / "tiny"
    subprocess.run(["cp", "-a", versioned, root], check=True)
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        path = root / "data" / ("train", "valid", "test")[number % 3] / ("cats", "dogs")[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"noise-{number}.png")
    here = find(root)
    here.dvc("add", "data")
    return root


@pytest.mark.parametrize(("what", "left"), [(("pack", "--shard-mb", "1"), "shards"), (("unpack",), "files")])
def test_a_killed_command_leaves_all_images(root: Path, what: tuple[str, ...], left: str) -> None:
    data = root / "data"
    before, killed = _held(data), 0
    started = time.monotonic()
    process = _command(root, *what)
    began = _wait_for_a_change(data, process) - started
    for number in range(KILLS):
        # From the first change on, a little later each time.
        time.sleep(0.03 * number)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        assert _held(data) == before
        process = _command(root, *what)
        time.sleep(began)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert killed >= KILLS // 2
    assert _held(data) == before
    assert bool(shards(data)) == (left == "shards")


def _wait_for_a_change(data: Path, process: "subprocess.Popen[bytes]") -> float:
    """When the command first changed the data folder."""
    before = _listing(data)
    while process.poll() is None and _listing(data) == before:
        time.sleep(0.01)
    return time.monotonic()


def _listing(data: Path) -> set[str]:
    return {entry.path for entry in layout.walk(data)}
