"""The audit flow: which labels may be wrong, by what the start weights see in all other images? It changes none."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import run_name, run_page
from flows.retrain import bring_data, step, validate
from flows.run_lock import run_lock
from vggflow.credentials import hidden_from_logs
from vggflow.errors import VggflowError
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.commands.audit import Audited
    from vggflow.tracking.audit_pages import Pages


@step("look")
def look(workspace: Workspace) -> "Audited":
    """Doubts the labels of all splits."""
    from vggflow.commands import audit

    found = audit.look(workspace)
    run_page.show_suspects(workspace, found.audit)
    return found


@step("publish")
def publish(workspace: Workspace, found: "Audited") -> "Pages":
    """The page and the table are in MLflow, since the clone that holds them goes away."""
    from vggflow.commands import audit

    return audit.publish(workspace, found, str(flow_run.name))


@flow(name="audit", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def audit(workspace: str = ".") -> State[Any]:
    """Says which labels may be wrong and shows their images; changes no label and no file of the data.

    Args:
        workspace: The folder of the workspace.
    """
    here = find(Path(workspace))
    with run_lock(here):
        try:
            state, parts = _audited(here)
        except VggflowError as error:
            name = "Refused" if error.exit_code == 3 else "Failed"
            state, parts = Failed(name=name, message=str(error), data=error), []
    run_page.show_summary(here, state, parts)
    return state


def _audited(here: Workspace) -> tuple[State[Any], list[str]]:
    """How the run ends, and what its summary tells besides."""
    if here.settings().model.weights == "none":
        message = "model.weights is none: random layers see nothing; name start weights"
        return Completed(name="Not audited", message=message), []
    bring_data(here)
    # It says which images there are, and which are left out.
    validate(here)
    found = look(here)
    parts = [run_page.confused(found.audit)]
    try:
        parts.append(run_page.addresses(publish(here, found).links))
    except VggflowError as unreachable:  # what was found stands in the table of the run all the same
        get_run_logger().warning("the page of the audit could not be kept: %s", unreachable)
    name = "Labels in doubt" if found.audit.sure else "No doubts"
    return Completed(name=name, message=found.message), parts
