"""`vggflow train` in two processes, each in a checkout of its own, as on two hosts."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from training_program import Program, TrackingServer, make, wait_until

from vggflow.processes.stage import read_outcome
from vggflow.training.hosts import SECONDS_UNTIL_LOST
from vggflow.workspace import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRAIN = {
    "backend": "jax",
    "devices": 2,
    "phases": [
        {"name": "head", "freeze_through": "block5_pool", "epochs": 3},
        {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.0005, "epochs": 12},
    ],
}


@dataclass(frozen=True)
class Two:
    """A workspace on two hosts."""

    first: Program
    second: Program

    def start(self) -> list["subprocess.Popen[bytes]"]:
        """The same command on both."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            hosts = f"127.0.0.1:{free.getsockname()[1]},127.0.0.1"
        for index, program in enumerate((self.first, self.second)):
            program.environment.update(
                {
                    "VGGFLOW_TRAINING_HOSTS": hosts,
                    "VGGFLOW_TRAINING_INDEX": str(index),
                    "KERAS_BACKEND": "jax",
                }
            )
        return [self.first.start(), self.second.start()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A training with two devices of one process."""
    folder = tmp_path_factory.mktemp("hosts")
    server = TrackingServer(folder)
    program = make(folder / "alone", server, TRAIN, {"dropout": 0.3})
    program.environment.update({"KERAS_BACKEND": "jax", "VGGFLOW_LOCKS": str(folder / "locks")})
    assert program.start().wait() == 0, program.said()
    yield program
    server.signal(signal.SIGKILL)


@pytest.fixture
def two(alone: Program, request: pytest.FixtureRequest) -> Iterator[Two]:
    """The same on two hosts, where nothing was trained yet; whatever is left of it is ended."""
    name = request.node.name
    found = []
    for host in ("first", "second"):
        copy = alone.copy(f"{name}-{host}")
        outcome(copy).unlink()
        locks = {"VGGFLOW_LOCKS": str(copy.root.parent / f"locks-{name}-{host}")}
        found.append(Program(copy.root, copy.server, alone.environment | locks))
    yield Two(*found)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(program.root) in (process.info["cmdline"] or []) for program in found):
            process.kill()


def trains(program: Program) -> psutil.Process:
    """The process that trains, of which another one tells how it ended."""
    return next(
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(program.root) in (process.info["cmdline"] or [])
        and "VGGFLOW_TRAINING_WATCHED" in (process.info["environ"] or {})
    )


def outcome(program: Program) -> Path:
    """Where the stage says how it ended."""
    return program.root / ".vggflow" / "outcome" / "train.json"


def left_by(program: Program) -> list[Path]:
    """What a process may leave in its workspace beside the state."""
    return [path for path in (program.root / "model", outcome(program)) if path.exists()]


def test_both_end_and_the_first_one_writes_what_one_process_writes(alone: Program, two: Two) -> None:
    before = len(two.first.server.runs())
    assert [process.wait() for process in two.start()] == [0, 0], two.first.said() + two.second.said()
    assert two.first.result()[:2] == alone.result()[:2]
    assert len(two.first.server.runs()) == before + 1
    assert read_outcome(find(two.first.root), "train").exit_code == 0
    assert "took part in 15 epochs as process 1" in two.second.said()
    assert left_by(two.second) == []
    # Nothing that a native library printed is among what vggflow says.
    assert "Gloo" not in two.first.said() + two.second.said()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_one_ends_the_other_by_one_line_and_the_retry_ends_as_if_nothing_had_been(
    alone: Program, two: Two, victim: int
) -> None:
    programs = two.first, two.second
    started = two.start()
    wait_until(lambda: two.first.epochs() >= 4 or started[0].poll() is not None, 300)
    trains(programs[victim]).kill()
    assert [process.wait(60) for process in started] == [1, 1]
    said = [program.said().splitlines()[-1] for program in programs]
    assert "the training ended by SIGKILL" in said[victim]
    assert "its checkpoint is kept" in said[1 - victim]
    assert not any("Check failure" in program.said() for program in programs)
    assert two.first.epochs() >= 4
    assert [process.wait() for process in two.start()] == [0, 0], two.first.said() + two.second.said()
    assert two.first.result()[:2] == alone.result()[:2]


def test_one_that_does_not_answer_any_more_is_lost_in_time(two: Two) -> None:
    started = two.start()
    wait_until(lambda: two.first.epochs() >= 4 or started[0].poll() is not None, 300)
    hangs = trains(two.second)
    hangs.suspend()
    # JAX looks now and then, and ends this one when its time is over.
    assert started[0].wait(2 * SECONDS_UNTIL_LOST) == 1
    assert "its checkpoint is kept" in two.first.said().splitlines()[-1]
    assert two.first.epochs() >= 4
    hangs.kill()
    assert started[1].wait(30) == 1


def test_the_one_that_watches_is_killed_and_the_one_that_trains_ends_with_it(two: Two) -> None:
    started = two.start()
    wait_until(lambda: two.first.epochs() >= 1 or started[0].poll() is not None, 300)
    work = trains(two.first)
    os.kill(started[0].pid, signal.SIGKILL)
    work.wait(30)
    assert started[1].wait(2 * SECONDS_UNTIL_LOST) == 1


def test_sigterm_ends_both_in_time(two: Two) -> None:
    started = two.start()
    wait_until(lambda: two.first.epochs() >= 1 or started[0].poll() is not None, 300)
    started[0].terminate()
    assert started[0].wait(30) == 128 + signal.SIGTERM
    assert read_outcome(find(two.first.root), "train").exit_code == 128 + signal.SIGTERM
    assert started[1].wait(2 * SECONDS_UNTIL_LOST) == 1


def test_another_backend_is_refused_in_one_line(alone: Program, tmp_path: Path) -> None:
    program = make(tmp_path / "tensorflow", alone.server, TRAIN | {"backend": "tensorflow"}, {})
    program.environment.update({"VGGFLOW_TRAINING_HOSTS": "127.0.0.1:1,127.0.0.1"})
    program.environment.update({"VGGFLOW_TRAINING_INDEX": "0", "KERAS_BACKEND": "tensorflow"})
    assert program.start().wait() == 2
    assert "train.backend is tensorflow, which trains in one process" in program.said().splitlines()[-1]
