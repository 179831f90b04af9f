"""The check-data flow: is there data that nobody has trained on and nobody asked to train on?"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed

from flows import run_name, run_page
from flows.events import announce_data
from flows.identity import identity
from flows.retrain import step
from flows.run_lock import run_lock
from vggflow import workspace as workspaces
from vggflow.commands import prepare
from vggflow.credentials import hidden_from_logs
from vggflow.tracking.registry import lineage
from vggflow.workspace import Workspace, find

# A request older than this was lost, or there was none: then the data is announced again.
RUNS_LOOKED_AT = 200  # the most that Prefect gives in one answer
DAYS_TO_REMEMBER = 7
# A look may wait for the turn of a retraining, which takes hours.
SECONDS_AT_MOST = 6 * 3600
LOST = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED, StateType.CANCELLING)


@step("look")
def look(workspace: Workspace) -> tuple[str, str]:
    """The hash of the data that there is, and why nothing has to be said about it; empty if something has to."""
    if workspaces.status(workspace, "data") in ("changed", "untracked"):
        with run_lock(workspace):  # a retraining of this folder adds the data too
            for line in prepare.prepare(workspace):
                get_run_logger().info(line)
            workspace.dvc("push", "data.dvc", "weights.dvc")
    data = lineage.data_hash(workspace)
    if not data:
        return data, "there is no data yet"
    from vggflow.tracking import finished_retrains

    if finished_retrains.is_known(workspace, data):
        return data, f"data {data[:6]} was trained on"
    return data, _asked_for(identity(workspace).tag, data)


@step("announce")
def announce(workspace: Workspace) -> None:
    """Tells the server."""
    announce_data(workspace)


@flow(
    name="check-data",
    flow_run_name=run_name.run_name,
    persist_result=False,
    validate_parameters=True,
    timeout_seconds=SECONDS_AT_MOST,
)
@hidden_from_logs()
def check_data(workspace: str = ".") -> State[Any]:
    """Announces data that is pushed but neither trained on nor asked for.

    Args:
        workspace: The folder of the workspace.
    """
    here = find(Path(workspace))
    data, why_not = look(here)
    if not why_not:
        announce(here)
    name, message = (
        ("Nothing new", why_not)
        if why_not
        else ("Announced", f"data {data[:6]} is new: a retraining is asked for")
    )
    state: State[Any] = Completed(name=name, message=message)
    run_page.show_summary(here, state, [])
    return state


def _asked_for(tag: str, data: str) -> str:
    """Whether a request for this data stands, in words; empty if not."""
    since = datetime.now(UTC) - timedelta(days=DAYS_TO_REMEMBER)
    wanted = FlowRunFilter.model_validate(
        {"tags": {"all_": [tag]}, "expected_start_time": {"after_": since.isoformat()}}
    )
    # Of retrainings alone: hourly checks and planned runs would fill what Prefect gives at once.
    retrainings = FlowFilter(name=FlowFilterName(any_=["retrain"]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=retrainings,
            flow_run_filter=wanted,
            limit=RUNS_LOOKED_AT,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
    for run in runs:
        if run.parameters.get("requested_data") == data and run.state and stands(run.state):
            return f"data {data[:6]} was asked for by run {run.name}"
    return ""


def stands(state: State[Any]) -> bool:
    """Whether a request is waiting, at work or answered. A refusal is an answer: the same data is refused again."""
    return state.name == "Refused" or state.type not in LOST
