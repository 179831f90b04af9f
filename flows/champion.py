"""Flows by hand, with a form: promote a candidate, roll the champion back.

Where MLflow knows users, a worker is a trainer and no promoter: these flows then judge and write down what a promoter
has to run, so that nobody promotes by way of Prefect, which knows no users.
"""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows import naming, showing
from flows.retrain import bring_data, step, validate
from flows.turns import turn
from vggflow.errors import VggflowError
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.succession import Promotion, Request

Reason = Annotated[str, Field(min_length=3, title="Reason", description="Why, for the record.")]
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN")


def only_requests() -> bool:
    """Whether MLflow knows users here: then this worker is not a promoter."""
    return any(name in os.environ for name in CREDENTIALS)


@step("judge")
def judge(workspace: Workspace, request: "Request") -> "Promotion":
    """Lets the gate judge, and promotes unless this is only a request."""
    from vggflow.succession import promote

    promotion = promote(workspace, request)
    showing.show_decision(workspace, promotion)
    return promotion


@flow(name="promote", flow_run_name=naming.run_name, persist_result=False, validate_parameters=True)
def promote(
    reason: Reason, version: int | None = None, by: str | None = None, workspace: str = "."
) -> State[Any]:
    """Lets a candidate become champion, if it is better on the same test images.

    Args:
        reason: Why, for the record.
        version: The candidate's version; nothing means the challenger.
        by: Who asks, for the record.
        workspace: The folder of the workspace.
    """
    from vggflow.succession import Request

    here = find(Path(workspace))
    with turn(here):
        try:
            bring_data(here)
            validate(here)
            request = Request(reason, by or _asker(), version, dry_run=only_requests())
            promotion = judge(here, request)
        except VggflowError as error:
            state: State[Any] = Failed(
                name="Refused" if error.exit_code == 3 else "Failed", message=str(error), data=error
            )
            showing.show_summary(here, state, [])
            return state
    if not only_requests():
        name = "Promoted" if promotion.outcome == "promoted" else "Champion kept"
        state = Completed(name=name, message=promotion.message)
        showing.show_summary(here, state, [_evidence(promotion)])
        return state
    command = ["vggflow", "promote", str(promotion.candidate.number), "--reason", reason]
    return _requested(here, command, by, [_evidence(promotion)])


@flow(name="rollback", flow_run_name=naming.run_name, persist_result=False, validate_parameters=True)
def rollback(reason: Reason, by: str | None = None, workspace: str = ".") -> State[Any]:
    """Puts the previous champion into use again and holds automatic promotion.

    Args:
        reason: Why, for the record.
        by: Who asks, for the record.
        workspace: The folder of the workspace.
    """
    from vggflow import succession

    here = find(Path(workspace))
    if only_requests():
        return _requested(here, ["vggflow", "rollback", "--reason", reason], by, [])
    with turn(here):
        try:
            champion, previous = succession.rollback(here, reason, by or _asker())
        except VggflowError as error:
            return Failed(message=str(error), data=error)
    message = f"version {previous.number} is champion again, version {champion.number} is withdrawn"
    state: State[Any] = Completed(name="Rolled back", message=message)
    showing.show_summary(here, state, ["Automatic promotion is on hold until somebody releases it."])
    return state


def _requested(here: Workspace, command: list[str], by: str | None, parts: list[str]) -> State[Any]:
    """The run ends with what a promoter has to run, with credentials of their own."""
    line = shlex.join([*command, *(["--by", by] if by else [])])
    message = f"a promoter decides: {line}"
    state: State[Any] = Completed(name="Requested", message=message)
    told = f"MLflow knows users here, so this run only asks. A promoter runs, in the workspace:\n\n```\n{line}\n```"
    showing.show_summary(here, state, [told, *parts])
    return state


def _evidence(promotion: "Promotion") -> str:
    champion = f"version {promotion.champion.number}" if promotion.champion else "none"
    text = promotion.decision.to_markdown() if promotion.decision else promotion.message
    return f"Candidate: version {promotion.candidate.number}. Champion: {champion}.\n\n{text}"


def _asker() -> str:
    """Who started the run, as far as Prefect knows: it has no users of its own."""
    return f"Prefect run {flow_run.name}"
