"""A DVC stage as the work of a Prefect task: started in a process of its own, watched, and asked how it ended."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from flows.run_progress import path_of
from vggflow.environment import DRIVER, FLOW_RUN, PROGRESS
from vggflow.errors import VggflowError
from vggflow.git_and_dvc import killed_push
from vggflow.processes.stage import Outcome, outcome_path, read_outcome
from vggflow.versioning import verified_pull
from vggflow.workspace import Workspace, dvc_command

SECONDS_TO_END = 10.0
# What DVC says to people at every stage; the flow publishes by itself and never commits.
DVC_HINTS = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes with git",
    "To enable auto staging",
    "Use `dvc push`",
    "Data and pipelines are up to date",
    "\tgit add",
    "\tdvc config",
    "> vggflow",
)
UNREADABLE = re.compile(r"'(\./)?dvc\.(yaml|lock)' (is invalid|validation failed)")


class StageFailed(VggflowError):
    """A stage ended badly, with the exit code and the line that it left as its outcome."""

    def __init__(self, stage: str, outcome: Outcome) -> None:
        super().__init__(f"{stage}: {outcome.message}")
        self.exit_code = outcome.exit_code
        self.retry = outcome.retry


class TimeIsUp(StageFailed):
    """A stage was stopped because its run has had all the time that it gets."""


@dataclass(frozen=True)
class StageLimits:
    """What a stage runs within: the run that it belongs to, and when that has to end (`time.monotonic`)."""

    flow_run_id: str = ""
    deadline: float | None = None

    def seconds_left(self) -> float:
        """Until the deadline; never below zero."""
        return max(0.0, (self.deadline or 0.0) - time.monotonic())


def run_dvc_stage(
    workspace: Workspace, stage: str, say: Callable[[str], None], limits: StageLimits
) -> Outcome | None:
    """Lets DVC bring a stage up to date; returns the outcome, or nothing where there was nothing to do.

    Raises:
        TimeIsUp: the deadline came first; the checkpoint is kept.
        StageFailed: the stage, or DVC itself, failed.
    """
    # Else an earlier run's would pass for this one's where DVC has nothing to do.
    outcome_path(workspace, stage).unlink(missing_ok=True)
    lines: list[str] = []
    # `--pull` brings what another machine computed from the same inputs.
    command = dvc_command("repro", "--pull", "--single-item", stage)
    # Before anything is pulled.
    verified_pull.verify_remotes(workspace)
    environment = workspace.environment() | {
        DRIVER: str(os.getpid()),
        FLOW_RUN: limits.flow_run_id,
        PROGRESS: str(path_of(workspace)),
    }
    with _ending_with_us(command, workspace, environment) as process, _limited(process, limits) as overdue:
        for line in process.stdout or ():
            if line.strip() and not line.startswith(DVC_HINTS):
                lines = [*lines[-20:], line.strip()]
                say(lines[-1])
        code = process.wait()
    if overdue.is_set():
        message = (
            "stopped: the run has had all the time that it gets; the next run goes on from the checkpoint"
        )
        raise TimeIsUp(stage, Outcome(1, message))
    outcome = read_outcome(workspace, stage)
    half = outcome is None and any(killed_push.CORRUPTED in line for line in lines)
    # Left by a push that was killed, maybe on another machine; once they are gone there are none to remove.
    if code != 0 and half and killed_push.remove_empty(workspace.root):
        return run_dvc_stage(workspace, stage, say, limits)
    if code != 0:
        # DVC ends with 255 whatever the stage ended with.
        raise StageFailed(stage, outcome if outcome and outcome.exit_code else _of_dvc(lines, code))
    return outcome


def _of_dvc(lines: list[str], code: int) -> Outcome:
    """What to make of a failure that the stage left no outcome of: it was killed, or DVC itself failed."""
    unreadable = next((line for line in lines if UNREADABLE.match(line)), None)
    if unreadable:
        return Outcome(2, f"{unreadable.rstrip('.')}: mend the file, or take it from git again")
    return Outcome(1, lines[-1] if lines else f"DVC ended with {code}", retry=True)


@contextmanager
def _limited(process: "subprocess.Popen[str]", limits: StageLimits) -> Iterator[threading.Event]:
    """Stops DVC and the stage at the deadline, with time to tidy up; the event tells that it came to this."""
    overdue = threading.Event()

    def stop() -> None:
        # First: once the process is ended, the other thread looks whether it was overdue.
        overdue.set()
        with suppress(psutil.NoSuchProcess):
            dvc = psutil.Process(process.pid)
            for each in [*dvc.children(recursive=True), dvc]:
                each.terminate()

    if limits.deadline is None:
        yield overdue
        return
    timer = threading.Timer(limits.seconds_left(), stop)
    timer.daemon = True
    timer.start()
    try:
        yield overdue
    finally:
        timer.cancel()


@contextmanager
def _ending_with_us(
    command: list[str], workspace: Workspace, environment: dict[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the block, in whatever way the block ends."""
    process = subprocess.Popen(
        command,
        cwd=workspace.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
