"""What native libraries print goes into a file; what Python prints goes to whoever reads it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from vggflow.processes.native_output import native_output_into
print("before")
with native_output_into(Path(sys.argv[1])):
    os.write(1, b"native out\\n")
    os.write(2, b"native err\\n")
    print("said")
    print("told", file=sys.stderr)
    if sys.argv[2] == "abort":
        os.abort()
os.write(1, b"native after\\n")
print("after")
"""


def run(log: Path, how: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-uc", PROGRAM, log, how], capture_output=True, text=True, check=False
    )


def test_both_are_told_apart_and_afterwards_all_is_as_before(tmp_path: Path) -> None:
    done = run(tmp_path / "log", "end")
    assert done.stdout.split() == ["before", "said", "native", "after", "after"]
    assert done.stderr.split() == ["told"]
    assert (tmp_path / "log").read_text() == "native out\nnative err\n"


def test_a_process_that_is_ended_has_said_what_it_said(tmp_path: Path) -> None:
    done = run(tmp_path / "log", "abort")
    assert (done.returncode, done.stdout.split(), done.stderr.split()) == (-6, ["before", "said"], ["told"])
    assert (tmp_path / "log").read_text() == "native out\nnative err\n"
