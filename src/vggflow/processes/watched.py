"""This program once more as a process of its own, so that somebody is left to say how it ended.

Where a process of a training is lost, JAX ends the others by `abort()` and prints pages: no `except` sees that.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vggflow.environment import DRIVER, TRAINING_WATCHED
from vggflow.errors import VggflowError

# What JAX says, among much else, where it waited for the others in vain before the training began.
NEVER_MET = "/RegisterTask"


def is_watched() -> bool:
    """Whether this is that process."""
    return bool(os.environ.get(TRAINING_WATCHED))


def run(arguments: Sequence[str], log: Path) -> int:
    """Runs the program with these arguments; its exit code.

    SIGTERM is passed on, Ctrl-C reaches both by itself, and it ends when this process is gone.

    Args:
        log: What native code says in it, as `native_output_into` keeps it.

    Raises:
        VggflowError: it was killed, or JAX ended it.
    """
    # Whoever is watched already is above this process too.
    driver = {} if DRIVER in os.environ or "DVC_STAGE" in os.environ else {DRIVER: str(os.getpid())}
    environment = os.environ | driver | {TRAINING_WATCHED: "1"}
    log.unlink(missing_ok=True)
    with _signals_passed_on() as started:
        program = subprocess.Popen([sys.executable, "-m", "vggflow.cli", *arguments], env=environment)
        started.append(program)
        code = program.wait()
    if code >= 0:
        return code
    said = log.read_text("utf-8", "replace") if log.exists() else ""
    known = f"; what JAX said is in {log}" if said else ""
    if NEVER_MET in said:
        raise VggflowError(
            "the processes of this training did not all meet in time: start the same command on every host, and let "
            f"them reach the first host's port{known}"
        )
    how = signal.Signals(-code).name
    raise VggflowError(
        f"the training ended by {how}, as it does where another of its processes is lost; its checkpoint is kept: "
        f"run the same command on every host again{known}"
    )


@contextmanager
def _signals_passed_on() -> Iterator[list["subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: object) -> None:
        if not started:
            raise SystemExit(128 + number)
        for program in started:
            program.send_signal(number)

    # A function, since what a process ignores, those that it starts ignore too.
    handlers = {signal.SIGTERM: pass_on, signal.SIGINT: lambda _number, _frame: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
