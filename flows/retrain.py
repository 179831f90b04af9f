"""The retrain flow: data → validate → train → evaluate → register → promote → publish, a task each."""

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.stages import StageFailed, run_dvc_stage
from vggflow import pipeline, rehearsal
from vggflow.console import say
from vggflow.errors import VggflowError
from vggflow.process import Outcome
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.succession import Promotion
    from vggflow.tracking.registry import Version

Result = TypeVar("Result")
UP_TO_DATE = "up to date"


def _may_pass_next_time(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Wrong usage and refusals stay what they are; a network or a device may be back."""
    error = state.result(raise_on_failure=False)
    return error.exit_code not in (2, 3) if isinstance(error, VggflowError) else isinstance(error, Exception)


def _step(name: str) -> Callable[[Callable[..., Result]], Any]:
    """A task as this flow wants it: DVC and the registry say what is done already, so Prefect caches nothing."""
    return task(
        name=name,
        retries=2,
        retry_delay_seconds=[15, 60],
        retry_condition_fn=_may_pass_next_time,
        persist_result=False,
        task_run_name=name,
    )


@_step("data")
def bring_data(workspace: Workspace) -> None:
    """Data and start weights are there and versioned, and the workspace knows this vggflow."""
    for line in pipeline.prepare(workspace):
        get_run_logger().info(line)


def _stage(name: str) -> Any:
    @_step(name)
    def run(workspace: Workspace) -> Outcome | None:
        """Lets DVC bring the stage up to date."""
        return run_dvc_stage(workspace, name, get_run_logger().info, str(flow_run.id or ""))

    return run


validate, train, evaluate = _stage("validate"), _stage("train"), _stage("evaluate")


@_step("register")
def register(workspace: Workspace, sample: bool) -> "tuple[Version, bool]":
    """The evaluated model is a candidate, registered once."""
    return pipeline.register(workspace, alias=not sample)


@_step("promote")
def promote(workspace: Workspace, version: "Version", sample: bool) -> "Promotion":
    """The candidate becomes champion if it is better; on the sample this is only judged."""
    from vggflow.succession import Request, promote

    request = Request("retrained", number=version.number, automatic=True, dry_run=sample)
    return promote(workspace, request)


@_step("publish")
def publish(workspace: Workspace) -> None:
    """Data, start weights, models and the run cache are on the DVC remote, for any other machine."""
    workspace.dvc("push", "--quiet", "--run-cache")


@flow(name="retrain", persist_result=False, retries=0, validate_parameters=True)
def retrain(workspace: str = ".", sample: bool = False) -> State[Any]:
    """Brings the champion up to date with data, code and settings, or says why it stays.

    Args:
        workspace: The folder of the workspace.
        sample: The whole way on `data/sample`, in an experiment of its own, without touching an alias.
    """
    here = find(Path(workspace))
    try:
        if sample:
            here = rehearsal.workspace_of_sample(here)
        bring_data(here)
        ran = {stage.name: stage(here) for stage in (validate, train, evaluate)}
        version, new = register(here, sample)
        promotion = promote(here, version, sample)
        publish(here)
    except StageFailed as error:
        return _failed(error)
    state = _state(ran, new, promotion)
    _describe(state, ran, promotion)
    return state


def _failed(error: StageFailed) -> State[Any]:
    refused = error.exit_code == 3
    message = str(error)
    create_markdown_artifact(f"# {'Refused' if refused else 'Failed'}\n\n{message}\n", key="retrain")
    return Failed(name="Refused" if refused else "Failed", message=message, data=error)


def _state(ran: dict[str, Outcome | None], new: bool, promotion: "Promotion") -> State[Any]:
    names = {
        "promoted": "Promoted",
        "awaiting approval": "Awaiting approval",
        "would promote": "Sample passed",
        "would keep": "Sample passed",
    }
    if not any(ran.values()) and not new and promotion.outcome not in ("promoted", "awaiting approval"):
        message = "data, code and settings are those of the last run; nothing was computed or registered"
        return Completed(name="Nothing new", message=message)
    return Completed(name=names.get(promotion.outcome, "Champion kept"), message=promotion.message)


def _describe(state: State[Any], ran: dict[str, Outcome | None], promotion: "Promotion") -> None:
    champion = promotion.champion
    in_use = f"version {champion.number}" if champion else "none yet"
    rows = "\n".join(
        f"| {stage} | {outcome.message if outcome else UP_TO_DATE} |" for stage, outcome in ran.items()
    )
    create_markdown_artifact(
        f"# {state.name}\n\n{state.message}\n\n| stage | |\n|---|---|\n{rows}\n\n"
        f"Candidate: version {promotion.candidate.number}. Champion: {in_use}.\n",
        key="retrain",
        description=state.message,
    )


def run_here(workspace: Path, *, sample: bool = False) -> int:
    """Runs the flow in this process; returns the exit code that the command line promises."""
    # The server takes seconds to start: MLflow is imported meanwhile.
    threading.Thread(target=importlib.import_module, args=("vggflow.succession",), daemon=True).start()
    state = retrain(str(workspace), sample, return_state=True)
    say(f"{state.name}: {state.message}")
    if state.is_completed():
        return 0
    error = state.result(raise_on_failure=False)
    return error.exit_code if isinstance(error, VggflowError) else 1
