"""`vggflow retrain`: the whole flow, now, or what it would do."""

from dataclasses import asdict
from typing import Annotated

import typer

from vggflow.commands import options, training_time
from vggflow.console import out, table
from vggflow.errors import UsageError
from vggflow.workspace import Workspace


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
    acts = any(step.step == "train" and step.acts for step in steps)
    expected = training_time.expected(workspace) if acts else None
    if as_json:
        takes = {"train": expected.to_dict()} if expected else {}
        rows = [asdict(step) | {"takes": takes.get(step.step)} for step in steps]
        options.print_json(rows)
        return
    out.print(table("", ["step", "would", "why"], [[step.step, step.would, step.why] for step in steps]))
    training_time.show(expected, "train would take")
