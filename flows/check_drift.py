"""The check-drift flow: does what the champion is asked lately still look like what it was measured on?"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import run_name, run_page
from flows.events import announce_drift
from flows.retrain import bring_data, step
from flows.run_lock import run_lock
from vggflow.credentials import hidden_from_logs
from vggflow.errors import VggflowError
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.commands.drift import Look

Days = Annotated[float, Field(gt=0, le=3650, title="Days", description="How far back.")]


@step("look")
def look(workspace: Workspace, days: float) -> "Look":
    """Compares the answers of these days with those on held-out images."""
    from vggflow.commands import drift

    found = drift.look(workspace, timedelta(days=days))
    run_page.show_drift(workspace, found)
    return found


@step("announce")
def announce(workspace: Workspace, found: "Look") -> None:
    """Tells the server."""
    announce_drift(workspace, found.model, found.message)


@flow(name="check-drift", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def check_drift(days: Days = 7, workspace: str = ".") -> State[Any]:
    """Compares what the champion answered lately with its answers on held-out images, and says where they differ.

    Args:
        days: How far back.
        workspace: The folder of the workspace.
    """
    here = find(Path(workspace))
    with run_lock(here):
        try:
            # Held-out images are in the data that the champion was measured on.
            bring_data(here)
            found = look(here, days)
            if found.drift and found.drift.found:
                announce(here, found)
        except VggflowError as error:
            failed: State[Any] = Failed(name="Failed", message=str(error), data=error)
            run_page.show_summary(here, failed, [])
            return failed
    state: State[Any] = Completed(name=_name(found), message=found.message)
    run_page.show_summary(here, state, [])
    return state


def _name(found: "Look") -> str:
    if found.drift is None:
        return "Too few answers"
    return "Drift" if found.drift.found else "No drift"
