"""Flows by hand, with a form: promote a candidate, roll the champion back.

Where MLflow knows users, a worker is a trainer and no promoter: these flows then judge and write down what a promoter
has to run, so that nobody promotes by way of Prefect, which knows no users.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import run_name, run_page
from flows.retrain import bring_data, step, validate
from flows.run_lock import run_lock
from vggflow.credentials import hidden_from_logs
from vggflow.errors import VggflowError
from vggflow.tracking import limits
from vggflow.workspace import Workspace, find

if TYPE_CHECKING:
    from vggflow.commands.promotion_acts import Promotion, Request

Reason = Annotated[
    str,
    Field(min_length=3, max_length=limits.REASON, title="Reason", description="Why, for the record."),
]
# A form is filled in by a person; the run that it starts has a name too, but is nobody.
Who = Annotated[
    str,
    Field(pattern=r"\S", max_length=limits.PERSON, title="By", description="Your name, for the record."),
]
Number = Annotated[int, Field(ge=1, title="Version")]


def only_requests(workspace: Workspace) -> bool:
    """Whether MLflow knows users here: then this worker is not a promoter.

    Raises:
        VggflowError: MLflow does not say, or does not take the worker's password.
    """
    from vggflow.tracking import connection
    from vggflow.tracking.users import access

    return access.current_user(connection.connect(workspace).client) is not None


@step("judge")
def judge(workspace: Workspace, request: "Request") -> "Promotion":
    """Lets the gate judge, and promotes unless this is only a request."""
    from vggflow.commands.promotion_acts import promote

    promotion = promote(workspace, request)
    run_page.show_decision(workspace, promotion)
    return promotion


@flow(name="promote", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def promote(reason: Reason, by: Who, version: Number | None = None, workspace: str = ".") -> State[Any]:
    """Lets a candidate become champion, if it is better on the same test images.

    Args:
        reason: Why, for the record.
        by: Your name, for the record. Where MLflow knows users, the record names who acts on the request.
        version: The candidate's version; nothing means the challenger.
        workspace: The folder of the workspace.
    """
    from vggflow.commands.promotion_acts import Request

    here = find(Path(workspace))
    with run_lock(here):
        try:
            bring_data(here)
            validate(here)
            asks = only_requests(here)
            # With users the registry knows who acts; the form's name is only claimed.
            who = None if asks else by
            promotion = judge(here, Request(reason, who, version, for_another=asks, dry_run=asks))
        except VggflowError as error:
            state: State[Any] = Failed(name=_failure(error), message=str(error), data=error)
            run_page.show_summary(here, state, [])
            return state
    if not asks:
        name = "Promoted" if promotion.outcome == "promoted" else "Champion kept"
        state = Completed(name=name, message=promotion.message)
        run_page.show_summary(here, state, [_evidence(promotion)])
        return state
    command = ["vggflow", "promote", str(promotion.candidate.number), "--reason", reason]
    return _requested(here, command, by, [_evidence(promotion)])


@flow(name="rollback", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def rollback(reason: Reason, by: Who, workspace: str = ".") -> State[Any]:
    """Puts the previous champion into use again and holds automatic promotion.

    Args:
        reason: Why, for the record.
        by: Your name, for the record.
        workspace: The folder of the workspace.
    """
    from vggflow.commands import promotion_acts

    here = find(Path(workspace))
    with run_lock(here):
        try:
            if only_requests(here):
                return _requested(here, ["vggflow", "rollback", "--reason", reason], by, [])
            done = promotion_acts.rollback(here, reason, by)
        except VggflowError as error:
            return Failed(name=_failure(error), message=str(error), data=error)
    message = f"version {done.to} is champion again, version {done.taken_back} is rolled back"
    state: State[Any] = Completed(name="Rolled back", message=message)
    run_page.show_summary(here, state, ["Automatic promotion is on hold until somebody releases it."])
    return state


def _failure(error: VggflowError) -> str:
    return "Refused" if error.exit_code == 3 else "Failed"


def _requested(here: Workspace, command: list[str], by: str, parts: list[str]) -> State[Any]:
    """The run ends with what a promoter has to run, with credentials of their own, which say who that is."""
    line = shlex.join(command)
    message = f"a promoter decides: {line}"
    state: State[Any] = Completed(name="Requested", message=message)
    told = (
        f"MLflow knows users here, so this run only asks, for {by} (as claimed). A promoter runs, in the workspace:\n\n"
        f"```\n{line}\n```"
    )
    run_page.show_summary(here, state, [told, *parts])
    return state


def _evidence(promotion: "Promotion") -> str:
    champion = f"version {promotion.champion.number}" if promotion.champion else "none"
    text = promotion.decision.to_markdown() if promotion.decision else promotion.message
    return f"Candidate: version {promotion.candidate.number}. Champion: {champion}.\n\n{text}"
