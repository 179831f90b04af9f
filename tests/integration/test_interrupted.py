"""Ctrl-C ends any command with 130 and one line."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import write_params

from vggflow.processes.locks import exclusive


@pytest.mark.parametrize("command", [["train"], ["train", "--find-lr"], ["search", "--json"]])
def test_ctrl_c_is_told_in_one_line(evaluated: Path, tmp_path: Path, command: list[str]) -> None:
    root, locks = tmp_path / "tiny", tmp_path / "locks"
    shutil.copytree(evaluated, root)
    # Another training than the one that is there, so that it has something to do.
    write_params(root, train={"seed": 77})
    with exclusive(locks / "all", "the devices"):
        process = subprocess.Popen(
            [sys.executable, "-m", "vggflow.cli", "-C", str(root), *command],
            env=os.environ | {"VGGFLOW_LOCKS": str(locks)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Waiting it is in the midst of its work, however fast the machine.
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("waiting:"):
                break
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told == "vggflow: interrupted; what was finished is kept, run the same command to go on\n"
    assert said == ""
