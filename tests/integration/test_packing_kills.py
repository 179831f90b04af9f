"""`data pack` and `data unpack`, killed again and again: the data are the same after every kill, and in the end."""

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggflow.data import layout
from vggflow.data.contents import Contents
from vggflow.data.places import shards
from vggflow.workspace import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IMAGES, SIDE_PX = 60, 600  # a megabyte each: a shard takes long enough to be killed over it
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


@pytest.mark.parametrize(("what", "left"), [(("pack", "--shard-mb", "12"), "shards"), (("unpack",), "files")])
def test_a_killed_command_leaves_all_images(root: Path, what: tuple[str, ...], left: str) -> None:
    data = root / "data"
    before, killed = _held(data), 0
    for changes in range(1, KILLS + 1):
        process = _command(root, *what)
        if _wait_for_changes(data, process, changes):
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        assert _held(data) == before
    process = _command(root, *what)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert killed >= KILLS // 2
    assert _held(data) == before
    assert bool(shards(data)) == (left == "shards")


def _wait_for_changes(data: Path, process: "subprocess.Popen[bytes]", count: int) -> bool:
    """Until so many times something else was in the data folder than before; false where the command ends sooner."""
    seen = _sizes(data)
    while process.poll() is None:
        now = _sizes(data)
        count -= now != seen
        if not count:
            return True
        seen = now
    return False


def _sizes(folder: Path) -> dict[str, int]:
    """Of all files, also those that are being written."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                found[f"{where}/{name}"] = Path(where, name).stat().st_size
    return found
