"""The predict flow: any number of images through a model, into one file, by hand or on a schedule."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import run_name, run_page, run_progress
from flows.retrain import step
from vggflow.credentials import hidden_from_logs
from vggflow.environment import PROGRESS
from vggflow.errors import VggflowError
from vggflow.prediction import answer_counts
from vggflow.prediction.answer_counts import AnswerCounts
from vggflow.processes.stage import last_error_line
from vggflow.workspace import Workspace, find

# Absolute: a worker's folder is a clone that goes away with its run.
Images = Annotated[
    str,
    Field(
        pattern=r"^/", title="Images", description="A folder or an image, by its absolute path on the worker."
    ),
]
Output = Annotated[
    str,
    Field(
        pattern=r"^/.*\.(parquet|csv|jsonl)$",
        title="Output",
        description="The file to write, by its absolute path: .parquet, .csv or .jsonl.",
    ),
]


class PredictFailed(VggflowError):
    """The command ended badly, with its exit code and its last line."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code
        # What was killed goes on where it was; wrong usage and refusals stay what they are.
        self.retry = code not in (2, 3)


@step("predict")
def predict_images(workspace: Workspace, images: str, output: str, model: str, strict: bool) -> AnswerCounts:
    """The file is there, with a row for each image; what it says on the whole.

    Raises:
        PredictFailed: it is not; what was done is kept, and gone on with.
    """
    arguments = [images, "--output", output, "--model", model, *(["--strict"] if strict else [])]
    # A process of its own gives memory and device back, and ends with this one.
    command = [sys.executable, "-m", "vggflow.processes.end_with_starter", "vggflow.cli"]
    with (
        run_progress.shown(workspace, run_page.key(workspace, "predict-progress")),
        subprocess.Popen(
            [*command, "-C", str(workspace.root), "predict", *arguments],
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
    for line in [*said.splitlines(), *told.splitlines()]:
        get_run_logger().info(line)
    if process.returncode:
        done = subprocess.CompletedProcess(command, process.returncode, said, told)
        raise PredictFailed(last_error_line(done).removeprefix("vggflow: "), process.returncode)
    counts = answer_counts.count(Path(output))
    run_page.show_answers(workspace, counts)
    return counts


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


@flow(name="predict", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def predict(
    images: Images,
    output: Output,
    model: str = "champion",
    strict: bool = False,
    workspace: str = ".",
) -> State[Any]:
    """Writes what a model sees in images, a row each, and goes on where a run before was killed.

    Args:
        images: A folder or an image, by its absolute path on the worker.
        output: The file to write, by its absolute path: .parquet, .csv or .jsonl.
        model: champion, challenger, or a version such as 3 or candidate:3.
        strict: An image that can't be read makes the run fail, after all rows are written.
        workspace: The folder of the workspace.
    """
    here = find(Path(workspace))
    try:
        counts = predict_images(here, images, output, model, strict)
    except VggflowError as error:
        name = "Refused" if error.exit_code == 3 else "Failed"
        state: State[Any] = Failed(name=name, message=str(error), data=error)
    else:
        unread = f", {counts.unreadable:,} can't be read" if counts.unreadable else ""
        state = Completed(
            name="Predicted", message=f"{output}: {counts.images:,} rows by {counts.model}{unread}"
        )
    run_page.show_summary(here, state, [])
    return state
