"""Ends programs for sure, also when `vggflow up` itself was killed: `python -m vggflow.stack.end_programs RECORD`.

`vggflow up` writes down what it started. The guard below waits at the other end of a pipe that the kernel closes
however `vggflow up` ends, and then ends what is still on record.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from vggflow import files

SECONDS_TO_END = 20.0
SECONDS_FOR_THE_REST = 8.0  # a training that is told to end writes its checkpoint


@dataclass(frozen=True)
class Running:
    """A program that was started in a session of its own: its process, how it wants to be told to end, and how long
    that may take."""

    name: str
    pid: int
    created: float
    end_signal: int
    seconds_to_end: float = SECONDS_TO_END

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it still runs; another one that got its number since is not it."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            # Linux counts starts in hundredths of a second; numbers come round far more slowly.
            if abs(process.create_time() - self.created) < 0.05 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def running(name: str, pid: int, end_signal: int, seconds_to_end: float = SECONDS_TO_END) -> Running:
    """What is to be remembered of a program that was just started."""
    return Running(name, pid, psutil.Process(pid).create_time(), end_signal, seconds_to_end)


def write_record(path: Path, programs: Sequence[Running]) -> None:
    """Writes down what runs, in the order in which it was started."""
    files.write_json(path, [asdict(program) for program in programs])


def end_recorded(path: Path) -> list[str]:
    """Ends what is on record and still runs, the last one first; returns the names of what was ended."""
    recorded = [Running(**entry) for entry in files.read_json(path)] if path.exists() else []
    # On record until all are gone: who is killed in between leaves it to the next.
    ended = [program.name for program in reversed(recorded) if end(program)]
    path.unlink(missing_ok=True)
    return ended


def end(program: Running) -> bool:
    """Ends a program and all that it started, gently at first; tells whether anything of it still ran."""
    process = program.process
    own = [process] if process else []
    # Asked before anything ends: orphans belong to another parent.
    below = _below(process) if process else _left_by(program)
    if not own and not below:
        return False
    if process:
        with suppress(ProcessLookupError):
            # Its group only: what leads a session of its own, as runs of flows may, is in `below`.
            os.killpg(program.pid, program.end_signal)
    _, alive = psutil.wait_procs(own, timeout=program.seconds_to_end)
    # Who did not end in time may have started more.
    below = [*below, *(child for one in alive for child in _below(one))]
    for number, seconds in ((signal.SIGTERM, SECONDS_FOR_THE_REST), (signal.SIGKILL, SECONDS_TO_END)):
        # Looks at the start too, so that the next process of the same number is spared.
        left = [each for each in (*below, *alive) if each.is_running()]
        for each in left:
            with suppress(psutil.Error):
                each.send_signal(number)
        psutil.wait_procs(left, timeout=seconds)
    return True


def _left_by(program: Running) -> list[psutil.Process]:
    """What a program that is gone left in its session. While it runs, the system gives its number to nobody else."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            its_own = os.getsid(each.pid) == program.pid != each.pid and each.create_time() >= program.created
            if its_own and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return [] if psutil.pid_exists(program.pid) and not _is_zombie(program.pid) else found


def _is_zombie(pid: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


if __name__ == "__main__":
    sys.stdin.buffer.read()  # until `vggflow up` is gone
    end_recorded(Path(sys.argv[1]))
