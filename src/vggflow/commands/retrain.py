"""`vggflow retrain`: the whole flow, now, or what it would do."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow.commands import options
from vggflow.console import out, say, table, tell
from vggflow.errors import UsageError, VggflowError
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.training.estimate import Estimate


def command(
    context: typer.Context,
    sample: Annotated[bool, typer.Option("--sample", help="Try every step on data/sample.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Runs the whole flow, now: data, validate, train, evaluate, push, register, promote, publish."""
    if dry_run:
        _print_plan(options.workspace(context), as_json)
        return
    if as_json:
        raise UsageError("--json belongs to --dry-run: add it, or leave --json out")
    from vggflow.processes import servers

    command = ["retrain", str(options.workspace(context).root), *(["--sample"] if sample else [])]
    raise typer.Exit(servers.run_flow(options.workspace(context), command))


def _print_plan(workspace: Workspace, as_json: bool) -> None:
    from vggflow.commands.retrain_plan import plan_retrain

    steps = plan_retrain(workspace)
    expected = _expected(workspace) if any(step.step == "train" and step.acts for step in steps) else None
    if as_json:
        takes = {"train": expected.to_dict()} if expected else {}
        rows = [asdict(step) | {"takes": takes.get(step.step)} for step in steps]
        options.print_json(rows)
        return
    out.print(table("", ["step", "would", "why"], [[step.step, step.would, step.why] for step in steps]))
    if expected:
        out.print()
        say(f"train would take about {expected.said} here, less where features are cached:")
        for line in expected.lines():
            say(f"  {line}")


def _expected(workspace: Workspace) -> "Estimate | None":
    """What the training would take, tried here if it never was; none where that can't be said now."""
    from vggflow.commands import train
    from vggflow.processes.locks import device_locks, if_free

    # Beside a training a trial would show what is left of the machine, and slow that down.
    with if_free(device_locks() / "all") as free:
        if not free:
            tell("a training is under way on this machine: no estimate of the time")
            return None
        try:
            return train.expect(workspace)
        except VggflowError as error:
            tell(f"no estimate of the time: {error}")
            return None
