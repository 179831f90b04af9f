"""The predict flow: any number of images through a model, into one file, by hand or on a schedule."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import own_process, run_name, run_page
from flows.retrain import step
from vggflow.credentials import hidden_from_logs
from vggflow.errors import VggflowError
from vggflow.prediction import answer_counts
from vggflow.prediction.answer_counts import AnswerCounts
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


@step("predict")
def predict_images(workspace: Workspace, images: str, output: str, model: str, strict: bool) -> AnswerCounts:
    """The file is there, with a row for each image; what it says on the whole.

    Raises:
        CommandFailed: it is not; what was done is kept, and gone on with.
    """
    arguments = [images, "--output", output, "--model", model, *(["--strict"] if strict else [])]
    said = own_process.run(workspace, ["predict", *arguments])
    for line in said.splitlines():
        get_run_logger().info(line)
    counts = answer_counts.count(Path(output))
    run_page.show_answers(workspace, counts)
    return counts


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
