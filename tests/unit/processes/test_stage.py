import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vggflow.errors import DataRefused, VggflowError, WeightsUnreachable
from vggflow.processes import stage as process
from vggflow.processes.stage import Outcome
from vggflow.workspace import Workspace

STAGE = """
import sys, time
from pathlib import Path
from vggflow.processes.stage import Outcome, run_stage
from vggflow.workspace import Workspace
def work():
    Path(sys.argv[2]).write_text("started")
    time.sleep(60)
    return Outcome(0, "done")
run_stage(Workspace(Path(sys.argv[1])), "train", work)
"""
NATIVE = """
import subprocess, sys
from pathlib import Path
import numpy as np
from vggflow.processes.stage import ending_with_parents
numbers = np.random.default_rng(0).random((6000, 6000))
with ending_with_parents():
    subprocess.Popen(["sleep", "60"])
    Path(sys.argv[1]).write_text("started")
    np.linalg.svd(numbers)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def test_an_outcome_is_left_and_read(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    process.run_stage(here, "train", lambda: Outcome(0, "done", facts={"epochs": 3}))
    assert process.read_outcome(here, "train") == Outcome(0, "done", facts={"epochs": 3})


def test_sigterm_cuts_off_a_call_into_native_code_and_what_was_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = subprocess.Popen(
        [sys.executable, "-c", NATIVE, started],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    _wait_for(started)
    time.sleep(0.5)
    (below,) = psutil.Process(program.pid).children()
    began = time.monotonic()
    program.terminate()
    assert program.wait(60) == 143
    assert 4 < time.monotonic() - began < 9
    below.wait(5)


def test_sigterm_unwinds_python_at_once(tmp_path: Path) -> None:
    _, stage = _start(tmp_path, {})
    began = time.monotonic()
    stage.terminate()
    stage.wait(10)
    assert time.monotonic() - began < 3
    outcome = process.read_outcome(Workspace(tmp_path), "train")
    assert outcome is not None
    assert (outcome.exit_code, outcome.retry) == (143, True)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (KeyError("typo"), False),
        (DataRefused("leak"), False),
        (WeightsUnreachable("no network"), True),
        (OSError("disk full"), True),
        (VggflowError("server away"), True),
    ],
)
def test_an_outcome_tells_whether_trying_again_can_help(
    tmp_path: Path, error: Exception, retry: bool
) -> None:
    def work() -> Outcome:
        raise error

    here = Workspace(tmp_path)
    with pytest.raises(type(error)):
        process.run_stage(here, "train", work)
    outcome = process.read_outcome(here, "train")
    assert outcome is not None
    assert outcome.retry is retry


def test_a_refusal_leaves_its_exit_code_and_line(tmp_path: Path) -> None:
    here = Workspace(tmp_path)

    def work() -> Outcome:
        raise DataRefused("two pictures leak")

    with pytest.raises(DataRefused):
        process.run_stage(here, "validate", work)
    assert process.read_outcome(here, "validate") == Outcome(3, "two pictures leak", "refused")


def test_a_bug_leaves_an_outcome_too(tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    with pytest.raises(ZeroDivisionError):
        process.run_stage(here, "train", lambda: Outcome(1 // 0, ""))
    outcome = process.read_outcome(here, "train")
    assert outcome is not None
    assert outcome.exit_code == 1


def test_no_outcome_is_none(tmp_path: Path) -> None:
    assert process.read_outcome(Workspace(tmp_path), "train") is None


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _start(tmp_path: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A stage below a process that plays DVC, which plays below this one, the flow."""
    started = tmp_path / "started"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, STAGE, tmp_path, started], env=os.environ | environment
    )
    _wait_for(started)
    return parent, psutil.Process(parent.pid).children()[0]


def test_a_stage_ends_when_the_process_above_it_is_killed(tmp_path: Path) -> None:
    parent, stage = _start(tmp_path, {"VGGFLOW_DRIVER_PID": str(os.getpid())})
    parent.send_signal(signal.SIGKILL)
    stage.wait(10)
    parent.wait()
    outcome = process.read_outcome(Workspace(tmp_path), "train")
    assert outcome is not None
    assert outcome.exit_code == 143


def test_a_stage_whose_flow_is_gone_before_it_starts_ends_at_once(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    environment = os.environ | {"VGGFLOW_DRIVER_PID": gone.stdout.strip()}
    done = subprocess.run(
        [sys.executable, "-c", STAGE, tmp_path, tmp_path / "x"], env=environment, timeout=30
    )
    assert done.returncode == 143
    assert not (tmp_path / "x").exists()


def test_a_stage_that_a_person_started_outlives_the_terminal(tmp_path: Path) -> None:
    parent, stage = _start(tmp_path, {})
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    time.sleep(2.5)
    assert stage.is_running()
    stage.kill()


def test_two_stages_of_one_workspace_take_turns(tmp_path: Path) -> None:
    parent, stage = _start(tmp_path, {})
    lock = tmp_path / ".vggflow" / "stage.lock"
    waiting = subprocess.Popen(
        [sys.executable, "-c", STAGE, tmp_path, tmp_path / "second"], stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    assert "another vggflow process" in waiting.stderr.readline()
    assert lock.exists()
    assert not (tmp_path / "second").exists()
    stage.kill()
    parent.wait()
    _wait_for(tmp_path / "second")
    waiting.kill()
    waiting.wait()
    waiting.stderr.close()
