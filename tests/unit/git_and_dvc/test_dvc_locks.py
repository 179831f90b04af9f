"""What a dead DVC left behind does not hold anybody up; what a living one holds stays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vggflow.git_and_dvc.dvc_locks import FILE, release_dead
from vggflow.workspace import find


def _lock(root: Path, pid: int) -> Path:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"write": {str(root / "weights"): {"pid": pid, "cmd": "dvc repro"}}}))
    return path


@pytest.mark.parametrize("text", ["", "{", "\x00\x00"])
def test_a_damaged_lock_blocks_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (workspace / FILE).parent.mkdir(parents=True, exist_ok=True)
    (workspace / FILE).write_text(text)
    find(workspace).dvc("add", "weights")
    assert "the file is damaged" in capsys.readouterr().err


def test_the_number_of_a_dead_dvc_that_another_program_has_now_blocks_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    _lock(workspace, other.pid)
    find(workspace).dvc("add", "weights")
    assert f"process {other.pid}" in capsys.readouterr().err
    other.communicate(b"\n")


def test_a_later_dvc_with_the_same_number_is_not_the_one_that_held_the_lock(tmp_path: Path) -> None:
    later = subprocess.Popen([sys.executable, "-c", "input() # dvc"], stdin=subprocess.PIPE)
    path = _lock(tmp_path, later.pid)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    release_dead(tmp_path)
    assert json.loads(path.read_text()) == {}
    later.communicate(b"\n")


def test_a_dvc_at_work_keeps_its_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    working = subprocess.Popen([sys.executable, "-c", "input() # dvc"], stdin=subprocess.PIPE)
    path = _lock(tmp_path, working.pid)
    before = path.read_text()
    release_dead(tmp_path)
    assert path.read_text() == before
    assert capsys.readouterr().err == ""
    working.communicate(b"\n")
