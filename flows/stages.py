"""A DVC stage as the work of a Prefect task: started in a process of its own, watched, and asked how it ended."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vggflow.errors import VggflowError
from vggflow.process import DRIVER, Outcome, outcome_path, read_outcome
from vggflow.tracking.lineage import FLOW_RUN
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


class StageFailed(VggflowError):
    """A stage ended badly, with the exit code and the line that it left as its outcome."""

    def __init__(self, stage: str, outcome: Outcome) -> None:
        super().__init__(f"{stage}: {outcome.message}")
        self.exit_code = outcome.exit_code


def run_dvc_stage(
    workspace: Workspace, stage: str, say: Callable[[str], None], flow_run_id: str
) -> Outcome | None:
    """Lets DVC bring a stage up to date; returns the outcome, or nothing where there was nothing to do.

    Raises:
        StageFailed: the stage, or DVC itself, failed.
    """
    outcome_path(workspace, stage).unlink(missing_ok=True)
    last = ""
    command = dvc_command("repro", "--pull", "--single-item", stage)
    environment = workspace.environment() | {DRIVER: str(os.getpid()), FLOW_RUN: flow_run_id}
    with _ending_with_us(command, workspace, environment) as process:
        for line in process.stdout or ():
            if line.strip() and not line.startswith(DVC_HINTS):
                last = line.strip()
                say(last)
        code = process.wait()
    outcome = read_outcome(workspace, stage)
    if code != 0:
        raise StageFailed(
            stage, outcome if outcome and outcome.exit_code else Outcome(1, last or f"DVC ended with {code}")
        )
    return outcome


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
