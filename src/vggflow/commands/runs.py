"""`vggflow runs`: the trainings of this workspace, and what differed between two of them."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow.commands import options, run_comparison, run_tables
from vggflow.console import age, out, say, table, tell
from vggflow.errors import UsageError
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.past_runs import PastRun

SHOWN = 20
COLUMNS = ("run", "age", "commit", "data", "images", "epochs", "valid", "test (95 %)", "became")


def command(
    context: typer.Context,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="What differed: two runs by their ids, or champion, 3, candidate:3.",
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help=f"How many; {SHOWN}.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Lists trainings, newest first; or says what differed between two, and what came of it."""
    workspace = options.workspace(context)
    if compare:
        if count is not None:
            raise UsageError("-n belongs to the list of runs: leave it out with --compare")
        found = run_comparison.compare(workspace, *compare)
        if as_json:
            options.print_json(found.to_dict())
        else:
            run_tables.show(found)
        return
    rows = run_rows(workspace, count or SHOWN)
    if as_json:
        options.print_json(rows)
    elif not rows:
        say("no trainings yet: `vggflow retrain` makes the first")
    else:
        show(rows)
        if len(rows) == (count or SHOWN):
            tell(f"the {len(rows)} newest: -n shows more; --compare A B says what differed between two")


def run_rows(workspace: Workspace, most: int) -> list[dict[str, Any]]:
    """The newest trainings, newest first: run, status, started, ended (UTC), commit, uncommitted, data, images,
    epochs, valid, split, accuracy, interval, versions, became. What a run does not say is None."""
    from vggflow.tracking import connection, past_runs

    registry = connection.connect(workspace)
    return [_row(run) for run in past_runs.newest(registry, most)]


def show(rows: list[dict[str, Any]]) -> None:
    """Prints trainings as a table of 80 columns."""
    made = table("", list(COLUMNS), [_cells(row) for row in rows])
    made.padding = (0, 1, 0, 0)  # else nine columns would not fit
    out.print(made)


def _row(run: "PastRun") -> dict[str, Any]:
    from vggflow.tracking.registry.champions import time_of

    return {
        "run": run.run_id,
        "status": run.status.lower(),
        "started": time_of(run.started_ms),
        "ended": None if run.ended_ms is None else time_of(run.ended_ms),
        "age_seconds": int(time.time() - run.started_ms / 1000),
        "commit": run.tags.get("git.commit"),
        "uncommitted": {"true": True, "false": False}.get(run.tags.get("git.dirty", "")),
        "data": run.tags.get("data.hash"),
        "images": run_comparison.learned_images(run),
        "epochs": run.epochs,
        **run_comparison.accuracies(run),
        "versions": [version.uri for version in run.versions],
        "became": run_comparison.became(run),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    from vggflow.tracking.past_runs import SHORT

    accuracy = ""
    if row["accuracy"] is not None and row["split"] == "test":  # that on valid has its column
        between = row["interval"] and [f"{100 * each:.0f}" for each in row["interval"]]
        accuracy = f"{100 * row['accuracy']:.1f}" + (f" ({between[0]}–{between[1]})" if between else "")
    cells = (
        row["run"][:SHORT],
        age(row["age_seconds"]),
        (row["commit"] or "")[:7] + ("+" if row["uncommitted"] else ""),
        (row["data"] or "")[:6],
        str(row["images"] or ""),
        str(row["epochs"] or ""),
        "" if row["valid"] is None else f"{100 * row['valid']:.1f}",
        accuracy,
        row["became"] or ("" if row["status"] == "finished" else row["status"]),
    )
    return [cell or "–" for cell in cells]
