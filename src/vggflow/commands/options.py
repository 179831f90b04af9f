"""What commands share: options of one meaning, the workspace that is meant, JSON, stages."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vggflow.console import say
from vggflow.processes.stage import Outcome
from vggflow.processes.stage import run_stage as run_as_stage
from vggflow.workspace import Workspace, check_version, find

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


By = Annotated[str | None, typer.Option("--by", help="Who, where the tracking server knows no users.")]


Candidate = Annotated[bool, typer.Option("--candidate", help="A candidate; else a promoted model.")]


Number = Annotated[int | None, typer.Argument(metavar="[VERSION]", help="The version; else the champion.")]


def workspace(context: typer.Context) -> Workspace:
    """The workspace that the command line names, else the one in this folder."""
    return find(context.obj)


def run_stage(workspace: Workspace, name: str, work: Callable[[Workspace], Outcome]) -> None:
    """Does the work of a stage as DVC and people start it, and says how it ended."""

    def checked() -> Outcome:
        # Within the stage, so that a refusal is left as its outcome, which the flow reads.
        check_version(workspace)
        return work(workspace)

    say(run_as_stage(workspace, name, checked).message)


def print_json(content: Any) -> None:
    """For programs: on stdout, indented, letters as they are."""
    print(json.dumps(content, indent=2, ensure_ascii=False))  # noqa: T201
