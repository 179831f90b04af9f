"""A command of vggflow as a process of its own: it gives memory and device back, and ends with the flow's."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from prefect import get_run_logger

from flows import run_page, run_progress
from vggflow.environment import PROGRESS
from vggflow.errors import VggflowError
from vggflow.processes.stage import last_error_line
from vggflow.workspace import Workspace


class CommandFailed(VggflowError):
    """The command ended badly, with its exit code and its last line."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code
        # What was killed goes on where it was; wrong usage and refusals stay what they are.
        self.retry = code not in (2, 3)


def run(workspace: Workspace, arguments: Sequence[str]) -> str:
    """What the command printed; its progress is shown on the page of the run, and what it told in the log.

    Raises:
        CommandFailed: it did not end well.
    """
    command = [sys.executable, "-m", "vggflow.processes.end_with_starter", "vggflow.cli"]
    with (
        run_progress.shown(workspace, run_page.key(workspace, f"{arguments[0]}-progress")),
        subprocess.Popen(
            [*command, "-C", str(workspace.root), *arguments],
            env=os.environ | {PROGRESS: str(run_progress.path_of(workspace))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        # Its input stays open until it has ended: the end of it is what it watches for.
        said, told = "", ""
        try:
            said, told = _read(process)
        finally:
            process.kill()
    for line in told.splitlines():
        get_run_logger().info(line)
    if process.returncode:
        done = subprocess.CompletedProcess(command, process.returncode, said, told)
        raise CommandFailed(last_error_line(done).removeprefix("vggflow: "), process.returncode)
    return said


def _read(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it writes until it ends. `communicate` would close its input at once."""
    told: list[str] = []
    stderr, stdout = process.stderr, process.stdout
    reading = threading.Thread(target=lambda: told.append(stderr.read() if stderr else ""), daemon=True)
    reading.start()
    said = stdout.read() if stdout else ""
    process.wait()
    reading.join()
    return said, "".join(told)
