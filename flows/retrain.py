"""The retrain flow: data → validate → train → evaluate → push → register → promote → publish, a task each."""

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import flow, get_run_logger, tags, task
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows import run_name, run_page, run_progress
from flows.checkout import remove_left_behind
from flows.dvc_stage import StageFailed, StageLimits, TimeIsUp, run_dvc_stage
from flows.identity import TAG, identity
from flows.run_lock import run_lock
from vggflow import workspace as workspaces
from vggflow.commands import local_runs, prepare, reference, retrain_sample
from vggflow.commands import register as register_command
from vggflow.console import say
from vggflow.credentials import hidden_from_logs
from vggflow.environment import tracking_uri
from vggflow.errors import VggflowError
from vggflow.processes.stage import Outcome, may_pass
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.commands.promotion_acts import Promotion
    from vggflow.tracking.gate_pages import Pages
    from vggflow.tracking.registry.model_versions import Version

Result = TypeVar("Result")
# A run that crashed this often would crash again: out of memory, a broken machine.
STARTS = 3
STATES = {
    "promoted": "Promoted",
    "awaiting approval": "Awaiting approval",
    "on hold": "On hold",
    "would promote": "Sample passed",
    "would keep": "Sample passed",
}
OPEN = ("awaiting approval", "on hold")
FINAL = ("promoted", "kept", "already champion")


def _may_pass_next_time(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A network or a device may be back; wrong usage, refusals and bugs stay what they are."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and may_pass(error)


def _without_traceback(record: logging.LogRecord) -> bool:
    """What vggflow says itself is one line, also where Prefect has tried it for the last time."""
    if record.exc_info and isinstance(record.exc_info[1], VggflowError):
        record.exc_info = None
    return True


def step(name: str) -> Callable[[Callable[..., Result]], Any]:
    """A task as these flows want it: DVC and the registry say what is done already, so Prefect caches nothing."""
    made = task(
        name=name,
        retries=3,
        # Five minutes in all: a server that was started again is back by then.
        retry_delay_seconds=[15, 60, 240],
        retry_condition_fn=_may_pass_next_time,
        persist_result=False,
        task_run_name=name,
    )
    # Hidden inside of the task, so that Prefect gets no password to write down.
    return lambda work: made(hidden_from_logs()(work))


@step("data")
def bring_data(workspace: Workspace, promotes: bool | None = None) -> str:
    """Data and start weights are there and versioned, and the workspace knows this vggflow.

    Args:
        workspace: Whose.
        promotes: Before a retraining, whether it may end with a promotion: then MLflow is asked first whether its
            user may do that, which would show after hours only.

    Returns:
        The digest of all that the retraining starts from.
    """
    from vggflow.tracking import connection, finished_retrains
    from vggflow.tracking.users import access

    if promotes is not None:
        access.refuse_unfit_role(connection.connect(workspace), promotes=promotes)
    for line in prepare.prepare(workspace):
        get_run_logger().info(line)
    return finished_retrains.inputs(workspace)


def stage(name: str) -> Any:
    """The task of a stage."""

    @step(name)
    def run(workspace: Workspace, deadline: float | None = None) -> Outcome | None:
        """Lets DVC bring the stage up to date."""
        limits = StageLimits(str(flow_run.id or ""), deadline)
        # Its own stage in dvc.yaml decides whether validate is stale, and `--single-item` would pass it over.
        if name == "validate":
            reference.reference(workspace)
        try:
            with run_progress.shown(workspace, run_page.key(workspace, "progress")):
                return run_dvc_stage(workspace, name, get_run_logger().info, limits)
        finally:
            run_page.show_table(workspace, name)

    return run


validate, train, evaluate = stage("validate"), stage("train"), stage("evaluate")


@step("push")
def push(workspace: Workspace) -> None:
    """Data, weights, models and the run cache are on the DVC remote, before anybody can come to rely on them.

    Raises:
        VggflowError: the remote did not take them, so that nothing may be registered.
    """
    try:
        workspace.dvc("push", "--run-cache")
    except VggflowError as error:
        stopped = VggflowError(f"nothing is registered before the DVC remote has data and model: {error}")
        stopped.retry = error.retry
        raise stopped from error


@step("register")
def register(workspace: Workspace, sample: bool) -> "tuple[Version, bool]":
    """The evaluated model is a candidate, registered once."""
    return register_command.register(workspace, alias=not sample)


@step("promote")
def promote(workspace: Workspace, version: "Version", sample: bool) -> "Promotion":
    """The candidate becomes champion if it is better; on the sample this is only judged."""
    from vggflow.commands.promotion_acts import Request, promote

    request = Request("retrained", number=version.number, automatic=True, dry_run=sample)
    promotion = promote(workspace, request)
    run_page.show_decision(workspace, promotion)
    return promotion


@step("publish")
def publish(workspace: Workspace, promotion: "Promotion", began_with: str) -> "Pages":
    """The gate's pages are in MLflow, and a retraining that came to its end is known as such."""
    from vggflow.tracking import connection, finished_retrains, gate_pages

    registry = connection.connect(workspace)
    pages = gate_pages.publish(registry, workspace, promotion.candidate)
    if promotion.outcome in FINAL and promotion.lasts:
        finished_retrains.mark(registry, workspace, promotion.candidate, began_with)
    return pages


@step("report")
def report_refusal(workspace: Workspace) -> "Pages":
    """The gate's pages are in MLflow, since the clone that holds them goes away."""
    from vggflow.tracking import gate_pages

    return gate_pages.publish_refusal(workspace, f"{flow_run.name} · refused")


@dataclass
class RunResult:
    """How far a run has come."""

    ran: dict[str, Outcome | None] = field(default_factory=dict)
    new: bool = False
    promotion: "Promotion | None" = None
    pages: "Pages | None" = None


@flow(
    name="retrain", flow_run_name=run_name.run_name, persist_result=False, retries=0, validate_parameters=True
)
@hidden_from_logs()
def retrain(
    workspace: str = ".",
    sample: bool = False,
    time_limit_hours: float | None = None,
    requested_data: str | None = None,
) -> State[Any]:
    """Brings the champion up to date with data, code and settings, or says why it stays.

    Args:
        workspace: The folder of the workspace.
        sample: The whole way on `data/sample`, in an experiment of its own, without touching an alias.
        time_limit_hours: A stage that runs when this time is over is stopped; its checkpoint is kept.
        requested_data: The hash of the data that somebody announced, for the record: what is trained on is what
            git says when the run begins.
    """
    del requested_data
    logging.getLogger("prefect.task_runs").addFilter(_without_traceback)
    here = find(Path(workspace))
    if (flow_run.run_count or 1) > STARTS:
        return Failed(name="Failed", message=f"given up: crashed {STARTS} times; see the logs of its tasks")
    with run_lock(here):  # waiting for it is not the run's own time
        deadline = time.monotonic() + 3600 * time_limit_hours if time_limit_hours else None
        state = _once(here, sample, deadline)
    # A killed worker's run may still have been ending when this one began.
    remove_left_behind()
    return state


def _once(here: Workspace, sample: bool, deadline: float | None) -> State[Any]:
    """The whole way, alone on this workspace."""
    result = RunResult()
    try:
        # A run by hand always brings everything here; only a clone that goes away takes the short way.
        if not sample and deployment.id and _is_finished(here):
            state = _nothing_new()
        else:
            here = _rehearsing(here) if sample else here
            state = _go(here, sample, deadline, result)
    except VggflowError as error:
        state = _failed(here, error, result)
    run_page.show_summary(here, state, _parts(result))
    return state


def _rehearsing(here: Workspace) -> Workspace:
    """The workspace of the sample; this process and its stages track where the workspace itself does."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri(here.root))
    return retrain_sample.workspace_of_sample(here)


def _go(here: Workspace, sample: bool, deadline: float | None, result: RunResult) -> State[Any]:
    began_with = bring_data(here, here.settings().promotion.by_itself and not sample)
    for name, run in (("validate", validate), ("train", train), ("evaluate", evaluate)):
        result.ran[name] = run(here, deadline)
    # Before anything names these bytes: a full remote must leave no champion whose bytes are nowhere.
    push(here)
    version, result.new = register(here, sample)
    result.promotion = promote(here, version, sample)
    result.pages = publish(here, result.promotion, began_with)
    return _state(result)


def _is_finished(here: Workspace) -> bool:
    """Whether a worker's clone, which goes away with its run, asks for what was retrained to the end already."""
    if workspaces.status(here, "data") != "missing" or not (here.root / "data.dvc").exists():
        return False
    from vggflow.tracking import finished_retrains

    return finished_retrains.find(here) is not None


def _failed(here: Workspace, error: VggflowError, result: RunResult) -> State[Any]:
    if error.exit_code == 3 and isinstance(error, StageFailed):
        try:
            result.pages = report_refusal(here)
        except VggflowError as unreachable:  # what was found stands in the table of the stage all the same
            get_run_logger().warning("the gate's pages could not be kept: %s", unreachable)
    name = "TimedOut" if isinstance(error, TimeIsUp) else "Refused" if error.exit_code == 3 else "Failed"
    return Failed(name=name, message=str(error), data=error)


def _nothing_new() -> State[Any]:
    message = "data, code and settings are those of the last run; nothing was computed or registered"
    return Completed(name="Nothing new", message=message)


def _state(result: RunResult) -> State[Any]:
    promotion = result.promotion
    if promotion is None or (
        not any(result.ran.get(name) for name in ("train", "evaluate"))
        and not result.new
        and promotion.outcome not in ("promoted", *OPEN)
    ):
        return _nothing_new()
    return Completed(name=STATES.get(promotion.outcome, "Champion kept"), message=promotion.message)


def _parts(result: RunResult) -> list[str]:
    """What the summary tells below its first line."""
    parts = [run_page.links(result.pages)] if result.pages else []
    if result.ran:
        parts.append(run_page.stages(result.ran))
    if result.promotion:
        champion = result.promotion.champion
        in_use = f"version {champion.number}" if champion else "none yet"
        parts.append(f"Candidate: version {result.promotion.candidate.number}. Champion: {in_use}.")
        parts.append(run_page.decision(result.promotion))
    return parts


def run_here(workspace: Path, *, sample: bool = False) -> int:
    """Runs the flow in this process; returns the exit code that the command line promises."""
    # The server takes seconds to start: MLflow is imported meanwhile.
    threading.Thread(target=importlib.import_module, args=("vggflow.commands.promote",), daemon=True).start()
    here, began = find(workspace), datetime.now().astimezone()
    with tags(TAG, identity(here).tag):
        state = retrain(str(workspace), sample, return_state=True)
    say(f"{state.name}: {state.message}")
    local_runs.add(here, "by hand", str(state.name), str(state.message), began)
    if state.is_completed():
        return 0
    error = state.result(raise_on_failure=False)
    return error.exit_code if isinstance(error, VggflowError) else 1
