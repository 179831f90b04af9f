"""Starts programs, waits until they answer, starts again what dies, and ends all of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vggflow.console import tell
from vggflow.errors import VggflowError
from vggflow.stack import end_programs
from vggflow.stack.end_programs import Running

SECONDS_TO_START = 180.0
SECONDS_BETWEEN_LOOKS = 0.3
# A night's run outlives a server that is back in half a minute: it waits and goes on. A stack that is down at three in
# the morning helps nobody. But what dies again and again is set up wrong, and trying on would hide it.
DEATHS_ALLOWED = 5
SECONDS_OF_MEMORY = 600.0
ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Program:
    """A program of the stack.

    Attributes:
        name: For people, and for its log.
        command: What is run; passwords don't belong here, since everybody can read command lines.
        environment: All of its environment.
        answers: Whether it does its work.
        end_signal: What asks it to end well.
        options: What `subprocess` is told besides, such as another account.
        seconds_to_end: How long it may take to end well; then it is killed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    answers: Callable[[], bool]
    end_signal: signal.Signals = signal.SIGTERM
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds_to_end: float = end_programs.SECONDS_TO_END


@dataclass
class _Child:
    program: Program
    process: "subprocess.Popen[bytes]"
    running: Running
    deaths: list[float] = field(default_factory=list)


class Supervisor:
    """The programs that run; make one with `supervising`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._record = folder / "processes.json"
        self._children: list[_Child] = []

    def log(self, program: Program) -> Path:
        """Where a program's output goes."""
        return self._folder / "log" / f"{program.name}.log"

    def start(self, program: Program) -> None:
        """Starts a program; `wait` says when it answers."""
        with _undisturbed():
            self._children.append(_Child(program, *self._spawn(program)))
            self._remember()

    def wait(self, program: Program) -> None:
        """Returns when the program answers.

        Raises:
            VggflowError: it ended, or does not answer in three minutes.
        """
        child = next(child for child in self._children if child.program is program)
        deadline = time.monotonic() + SECONDS_TO_START
        while not program.answers():
            if child.process.poll() is not None:
                self._fail(program, f"ended with exit code {child.process.returncode}")
            if time.monotonic() > deadline:
                self._fail(program, f"did not answer within {SECONDS_TO_START:.0f} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def watch(self) -> NoReturn:
        """Starts again what dies, until a signal interrupts it.

        Raises:
            VggflowError: a program died too often.
        """
        while True:
            for child in self._children:
                if child.process.poll() is not None:
                    self._revive(child)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self) -> None:
        """Ends all programs, the last one first, and what they started."""
        # The worker goes before the servers that it reports to, these before their database.
        for child in reversed(self._children):
            end_programs.end(child.running)
            child.process.wait()
        self._children.clear()
        # Last: the guard ends what is on record should we be killed meanwhile.
        self._record.unlink(missing_ok=True)

    def _revive(self, child: _Child) -> None:
        now = time.monotonic()
        child.deaths = [*(then for then in child.deaths if now - then < SECONDS_OF_MEMORY), now]
        code = child.process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if len(child.deaths) > DEATHS_ALLOWED:
            self._fail(child.program, f"{how}, and did so {len(child.deaths)} times within ten minutes")
        tell(f"{child.program.name} {how}: starting it again")
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)  # what it leaves would keep its port
        time.sleep(2.0 ** (len(child.deaths) - 1))  # 16 s before the last try
        with _undisturbed():
            child.process, child.running = self._spawn(child.program)
            self._remember()

    def _spawn(self, program: Program) -> tuple["subprocess.Popen[bytes]", Running]:
        log = self.log(program)
        log.parent.mkdir(parents=True, exist_ok=True)
        # Appended to: why a program died stays readable when it runs again.
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            process = subprocess.Popen(
                program.command,
                cwd="/",
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal then reaches only us, who end them in their order.
                start_new_session=True,
                **program.options,
            )
        return process, end_programs.running(
            program.name, process.pid, program.end_signal, program.seconds_to_end
        )

    def _remember(self) -> None:
        end_programs.write_record(self._record, [child.running for child in self._children])

    def _fail(self, program: Program, how: str) -> NoReturn:
        raise VggflowError(f"{program.name} {how}: the servers are stopped; see {self.log(program)}")


@contextmanager
def supervising(folder: Path) -> Iterator[Supervisor]:
    """A supervisor whose programs end with the block, or with this process however it is ended.

    Ctrl-C and SIGTERM leave the block as `KeyboardInterrupt`; while the programs are ended, further ones are ignored.
    """
    # First of all: it would hold the ports.
    if ended := end_programs.end_recorded(folder / "processes.json"):
        tell(f"ended what an earlier `vggflow up` had left: {', '.join(ended)}")
    supervisor = Supervisor(folder)
    before = {number: signal.signal(number, _interrupt) for number in ENDING}
    # Out of reach of Ctrl-C and of the terminal's end, since it has to outlive us.
    guard = subprocess.Popen(
        [sys.executable, "-m", "vggflow.stack.end_programs", str(folder / "processes.json")],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield supervisor
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        supervisor.stop()
        # Closes its pipe: it finds no record any more and ends.
        guard.communicate()
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    # A second Ctrl-C would cut off the ending of the programs.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A signal that comes inside the block is heard after it: what was started is on record before anything ends."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda each, _: heard.append(each)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
