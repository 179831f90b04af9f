"""A stage as a process: it leaves an outcome, dies with its parent and shares its workspace with nobody.

DVC turns every failing exit code into 255 and does not end what it started when it is killed. So the stage itself
writes down how it ended, watches the processes above it, and holds a lock that the kernel frees with it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil

from vggflow import artifacts
from vggflow.credentials import hide, hide_in
from vggflow.environment import DRIVER
from vggflow.errors import VggflowError
from vggflow.files import read_json, write_json
from vggflow.processes.locks import exclusive
from vggflow.workspace import Workspace

# As shells count an end by a signal.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
SECONDS_TO_END = 5.0
SECONDS_BETWEEN_LOOKS = 1.0
# Trying again mends none of these. OSError and RuntimeError are not here: devices and libraries raise them.
BUGS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(NotImplementedError, SyntaxError, TypeError, ValueError),
)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: its exit code, one line for people, the gate's verdict, and files worth a look.

    `retry` tells whether trying again, with nothing changed, can end otherwise.
    """

    exit_code: int
    message: str
    verdict: str | None = None
    paths: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    retry: bool = False


def outcome_path(workspace: Workspace, stage: str) -> Path:
    """Where a stage leaves its outcome: outside DVC's outputs, which DVC deletes."""
    return workspace.path(artifacts.OUTCOMES) / f"{stage}.json"


def read_outcome(workspace: Workspace, stage: str) -> Outcome | None:
    """The outcome that a stage left, if it ran and got as far as leaving one."""
    path = outcome_path(workspace, stage)
    return Outcome(**read_json(path)) if path.exists() else None


def run_stage(workspace: Workspace, stage: str, work: Callable[[], Outcome]) -> Outcome:
    """Does the work of a stage with its parents watched and its workspace locked, and leaves the outcome."""
    with (
        # Watched before it waits for the lock: its parents may go meanwhile.
        ending_with_parents(),
        exclusive(workspace.path(artifacts.STATE) / "stage.lock", f"{workspace.root}"),
    ):
        try:
            outcome = work()
        except VggflowError as error:
            left = Outcome(error.exit_code, str(error), verdict=_verdict(error), retry=error.retry)
            _leave(workspace, stage, left)
            raise
        # Ctrl-C and SIGTERM too: without an outcome a flow would take the stage for killed.
        except BaseException as error:
            left = Outcome(_exit_code(error), f"{stage} ended early: {error!r}", retry=may_pass(error))
            _leave(workspace, stage, left)
            raise
        _leave(workspace, stage, outcome)
        return outcome


def run_module(
    module: str, *arguments: str | Path, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a module as a process of its own, which ends when this one is gone; `given` is what it reads."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=given,
        env=os.environ | {DRIVER: str(os.getpid())},
        capture_output=True,
        text=True,
        check=False,
    )


def last_error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a process ended with, which says what stopped it."""
    return hide((done.stderr.strip().splitlines() or ["no message"])[-1])


def may_pass(error: BaseException) -> bool:
    """Whether what failed so may pass when tried again: a network, a disk or a device may be back, a bug is not."""
    if isinstance(error, VggflowError):
        return error.retry
    return not isinstance(error, (*BUGS, KeyboardInterrupt))


@contextmanager
def ending_with_parents() -> Iterator[None]:
    """Ends this process with SIGTERM when DVC, the flow or the command above it is gone.

    SIGTERM leaves the block as `SystemExit`, so that runs are closed. What takes longer is cut off.
    """
    watched = _parents()
    stop = threading.Event()
    with _ending_in_time():
        if watched:
            threading.Thread(target=_watch, args=(watched, stop), daemon=True, name="parent-watch").start()
        try:
            yield
        finally:
            stop.set()


@contextmanager
def _ending_in_time() -> Iterator[None]:
    """Keeps the time from the moment of SIGTERM: Python runs a handler only when a call into native code returns.

    What the kernel delivers is also written to a pipe at once, and a thread waits at its other end.
    """
    reads, writes = os.pipe()
    # `set_wakeup_fd` demands it: the handler in C must never wait.
    os.set_blocking(writes, False)
    threading.Thread(target=_cut_off_after_signal, args=(reads,), daemon=True, name="time-to-end").start()
    handler = signal.signal(signal.SIGTERM, _terminate)
    pipe = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    try:
        yield
    finally:
        # Before the pipe is closed: a late signal would be written into whatever file gets its number next.
        signal.set_wakeup_fd(pipe)
        signal.signal(signal.SIGTERM, handler)
        # Ends the thread, which closes the other end.
        os.close(writes)


def exit_fast(code: int) -> NoReturn:
    """Ends the program without taking a framework down piece by piece, which costs seconds and frees nothing more.

    JAX would also wait for the other processes of a training that failed in this one, and they for it.
    """
    # `os._exit` flushes nothing.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it is gone
            stream.flush()
    if {"tensorflow", "jax"} & set(sys.modules):
        os._exit(code)
    sys.exit(code)


def _parents() -> list[psutil.Process]:
    """The processes from here up to the flow, or up to DVC; none when a person started the stage.

    Raises:
        SystemExit: one of them is gone already, before anybody could watch it.
    """
    driver = int(os.environ.get(DRIVER, "0"))
    if not driver and "DVC_STAGE" not in os.environ:
        return []
    above = psutil.Process().parents()
    for index, process in enumerate(above):
        if process.pid == driver or (not driver and _is_dvc(process)):
            return above[: index + 1]
    raise SystemExit(TERMINATED)


def _is_dvc(process: psutil.Process) -> bool:
    try:
        # `python -m dvc repro` or `python /…/bin/dvc repro`: further on the word may be anything.
        return any(Path(part).name == "dvc" for part in process.cmdline()[:4])
    except psutil.Error:
        return False


def _watch(watched: list[psutil.Process], stop: threading.Event) -> None:
    while not stop.wait(SECONDS_BETWEEN_LOOKS):
        if not all(_is_alive(process) for process in watched):
            # A signal, since an exception raised here would end this thread only.
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a killed process whose parent has not collected it yet is a zombie, thus dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _terminate(_signal: int, _frame: object) -> None:
    raise SystemExit(TERMINATED)


def _cut_off_after_signal(reads: int) -> None:
    with os.fdopen(reads, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM:
                time.sleep(SECONDS_TO_END)
                # `os._exit` runs no `finally` that would end them.
                for process in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        process.kill()
                os._exit(TERMINATED)


def _leave(workspace: Workspace, stage: str, outcome: Outcome) -> None:
    write_json(outcome_path(workspace, stage), hide_in(asdict(outcome)))


def _verdict(error: VggflowError) -> str | None:
    return "refused" if error.exit_code == 3 else None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
