"""Programs that are started, started again, and ended with all that they started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from vggflow.errors import VggflowError
from vggflow.stack import end_programs, supervisor
from vggflow.stack.supervisor import Program, supervising

# Says who it is and who its child is, then waits; the child would not end by itself.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "a").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(600)
"""
SUPERVISED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_supervisor import parent
from vggflow.stack.supervisor import supervising
with supervising(Path(sys.argv[1])) as running:
    program = parent(Path(sys.argv[1]))
    running.start(program)
    running.wait(program)
    print("ready", flush=True)
    time.sleep(600)
"""


def parent(folder: Path) -> Program:
    """A program with a child in a session of its own."""
    said = folder / "pids"
    return Program(
        "parent",
        (sys.executable, "-c", PARENT, str(said)),
        os.environ,
        lambda: said.exists() and said.stat().st_size > 0,
    )


def _pids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _wait(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_programs_and_what_they_started_end_with_the_block(tmp_path: Path) -> None:
    with supervising(tmp_path) as running:
        program = parent(tmp_path)
        running.start(program)
        running.wait(program)
        assert all(map(_alive, _pids(tmp_path)))
    assert not any(map(_alive, _pids(tmp_path)))
    assert not (tmp_path / "processes.json").exists()


def test_what_a_dead_program_left_in_its_session_is_ended(tmp_path: Path) -> None:
    said = tmp_path / "pids"
    script = PARENT.replace(", start_new_session=True", "")
    leader = subprocess.Popen([sys.executable, "-c", script, str(said)], start_new_session=True)
    recorded = end_programs.running("leader", leader.pid, signal.SIGTERM)
    _wait(lambda: said.exists() and len(said.read_text().split()) == 2)
    child = _pids(tmp_path)[1]
    leader.kill()
    leader.wait()
    assert _alive(child)
    assert end_programs.end(recorded)
    assert not _alive(child)
    assert not end_programs.end(recorded)


def test_a_program_gets_the_time_that_it_needs_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_programs, "SECONDS_FOR_THE_REST", 0.5)
    slow = "import signal, sys, time; from pathlib import Path; done = Path(sys.argv[1]);" + (
        "signal.signal(signal.SIGINT, lambda *_: (time.sleep(3), done.touch(), sys.exit()));"
        "signal.signal(signal.SIGTERM, lambda *_: None); Path(sys.argv[2]).touch(); time.sleep(600)"
    )
    done, ready = tmp_path / "done", tmp_path / "ready"
    database = Program(
        "database",
        (sys.executable, "-c", slow, str(done), str(ready)),
        os.environ,
        ready.exists,
        signal.SIGINT,
        seconds_to_end=20.0,
    )
    monkeypatch.setattr(end_programs, "SECONDS_TO_END", 0.5)
    with supervising(tmp_path) as running:
        running.start(database)
        running.wait(database)
    assert done.exists()


def test_a_signal_while_a_program_is_started_leaves_nothing(tmp_path: Path) -> None:
    script = SUPERVISED.replace(
        "    running.start(program)",
        "    tell = lambda: os.kill(os.getppid(), signal.SIGTERM)\n"
        "    running.start(replace(program, options={'preexec_fn': tell}))",
    ).replace("import sys, time", "import os, signal, sys, time\nfrom dataclasses import replace")
    command = [sys.executable, "-c", script, tmp_path, Path(__file__).parent]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0
    time.sleep(1)  # what was not ended would have said who it is by now
    assert not (tmp_path / "pids").exists() or not any(map(_alive, _pids(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_however_the_supervisor_ends(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, tmp_path, Path(__file__).parent], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.wait(30)
    process.stdout.close()
    _wait(lambda: not any(map(_alive, _pids(tmp_path))))


def test_a_program_that_dies_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with supervising(tmp_path) as running:
        program = parent(tmp_path)
        running.start(program)
        running.wait(program)
        os.kill(_pids(tmp_path)[0], signal.SIGKILL)
        _wait(lambda: not _alive(_pids(tmp_path)[0]))
        with pytest.raises(TimeoutError):
            _for_a_while(running.watch, until=lambda: len(_pids(tmp_path)) == 4)
        assert _alive(_pids(tmp_path)[2])
    assert "parent was ended by signal 9: starting it again" in capsys.readouterr().err
    assert not _alive(_pids(tmp_path)[2])
    os.kill(_pids(tmp_path)[1], signal.SIGKILL)  # its parent was killed, so nobody else knows of it


def _for_a_while(work: Callable[[], object], until: Callable[[], bool]) -> None:
    """Runs what never returns until something is true, then raises TimeoutError in it."""

    def look(_number: int, _frame: object) -> None:
        if until():
            raise TimeoutError
        signal.alarm(1)

    before = signal.signal(signal.SIGALRM, look)
    signal.alarm(1)
    try:
        work()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_program_that_dies_again_and_again_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DEATHS_ALLOWED", 1)
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit(7)"), os.environ, lambda: True)
    with (
        pytest.raises(VggflowError, match=r"broken ended with exit code 7, and did so 2 times.*broken\.log"),
        supervising(tmp_path) as running,
    ):
        running.start(broken)
        running.watch()


def test_a_program_that_does_not_come_up_is_named_with_its_log(tmp_path: Path) -> None:
    broken = Program(
        "broken", (sys.executable, "-c", "raise SystemExit('no way')"), os.environ, lambda: False
    )
    with pytest.raises(VggflowError, match="broken ended with exit code 1"), supervising(tmp_path) as running:
        running.start(broken)
        running.wait(broken)
    assert (tmp_path / "log" / "broken.log").read_text() == "no way\n"
