"""What a dead DVC left behind does not hold anybody up; what a living one holds stays."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vggflow.git_and_dvc.dvc_locks import FILE, release_dead
from vggflow.workspace import find


def _lock(root: Path, pid: int) -> Path:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"write": {str(root / "weights"): {"pid": pid, "cmd": "dvc repro"}}}))
    return path


@contextmanager
def _at_work(code: str) -> Iterator[int]:
    """The number of a process that waits; while a program is only being started its command line is empty."""
    with subprocess.Popen(
        [sys.executable, "-c", f"print('at work', flush=True); {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


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
    with _at_work("input()") as other:
        _lock(workspace, other)
        find(workspace).dvc("add", "weights")
        assert f"process {other}" in capsys.readouterr().err


def test_a_later_dvc_with_the_same_number_is_not_the_one_that_held_the_lock(tmp_path: Path) -> None:
    with _at_work("input() # dvc") as later:
        path = _lock(tmp_path, later)
        long_ago = time.time() - 3600
        os.utime(path, (long_ago, long_ago))
        release_dead(tmp_path)
        assert json.loads(path.read_text()) == {}


def test_a_dvc_at_work_keeps_its_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _at_work("input() # dvc") as working:
        path = _lock(tmp_path, working)
        before = path.read_text()
        release_dead(tmp_path)
        assert path.read_text() == before
        assert capsys.readouterr().err == ""
