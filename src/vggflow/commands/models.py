"""`vggflow models`: champions and candidates, and who was champion when."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow.commands import options
from vggflow.console import age, local_time, out, say, table, tell
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.registry.champions import PeriodInUse
    from vggflow.tracking.registry.model_versions import Version

# Candidates in the table of `models`: a year's nights are more than anybody reads.
NEWEST = 50


def command(
    context: typer.Context,
    history: Annotated[
        bool, typer.Option("--history", help="Who was champion from when until when.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help=f"Every candidate, not only the {NEWEST} newest.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Models that are said to be another workspace's are this one's.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Lists champions and candidates with aliases and accuracy, or the history of champions."""
    if adopt:
        say(adopt_models(options.workspace(context)))
        return
    if history:
        _print_history(options.workspace(context), as_json)
        return
    rows = model_rows(options.workspace(context), None if every else NEWEST)
    if as_json:
        options.print_json(rows)
    elif not rows:
        say("no models yet: `vggflow retrain` makes the first")
    else:
        columns = ["model", "version", "aliases", "accuracy", "data", "age", "champion"]
        out.print(table("", columns, [[str(row[column] or "–") for column in columns] for row in rows]))
        if not every and sum(not row["champion"] for row in rows) >= NEWEST:
            tell(f"of the candidates the {NEWEST} newest: --all shows the others too")


def _print_history(workspace: Workspace, as_json: bool) -> None:
    rows = history(workspace)
    if as_json:
        options.print_json(rows)
    elif not rows:
        say("no champion yet: `vggflow retrain` makes the first")
    else:
        out.print(table("", list(rows[0]), [as_cells(row) for row in rows]))


def model_rows(workspace: Workspace, most: int | None = None) -> list[dict[str, Any]]:
    """All champions and the `most` newest candidates (None: all), newest first.

    A row holds model, version, aliases, accuracy, log_loss, data, made, age, and champion: `since …` for the one in
    use, `until …` for the ones before; times are local.
    """
    from vggflow.tracking import connection
    from vggflow.tracking.registry import champions, model_versions

    registry = connection.connect(workspace)
    client, names = registry.client, registry.names
    found = champions.read(registry)
    periods_in_use = {period.number: _in_use(period) for period in found.periods_in_use()}
    if most is None:
        candidates = model_versions.versions(client, names.candidates)[::-1]
    else:
        candidates = model_versions.newest(client, names.candidates, most)
    return [
        *(
            _row(version, periods_in_use.get(version.number, ""))
            for version in reversed(found.versions)
            # What a killed promotion left is no champion: the next act completes or deletes it.
            if version not in found.claims and version not in found.lost
        ),
        *(_row(version) for version in candidates),
    ]


def adopt_models(workspace: Workspace) -> str:
    """Takes the registered models of this workspace's name over, whosever they were; says so in a line."""
    from vggflow.tracking import connection
    from vggflow.tracking.registry import ownership

    registry = connection.connect_unchecked(workspace)
    name = registry.names.name
    with connection.mlflow_errors_as_one_line():
        adopted = ownership.claim(registry, workspace, adopt=True)
    if not adopted:
        return f"there are no models called {name!r} yet: the first candidate will be this workspace's"
    return f"the models called {name!r} are this workspace's now: {ownership.owner(workspace).place}"


def _row(version: "Version", champion: str = "") -> dict[str, Any]:
    log_loss = version.tags.get("log_loss")
    return {
        "model": version.name,
        "version": version.number,
        "aliases": ", ".join(version.aliases),
        "accuracy": round(version.accuracy, 4) if version.accuracy is not None else None,
        "log_loss": float(log_loss) if log_loss else None,
        "data": version.tags.get("data.hash", "")[:6],
        "made": local_time(version.created_ms / 1000),
        "age": age(time.time() - version.created_ms / 1000),
        "champion": champion,
    }


def _in_use(period: "PeriodInUse") -> str:
    """The last time that a version was champion, in few characters."""
    when = datetime.fromisoformat(period.until or period.since).astimezone()
    return f"{'until' if period.until else 'since'} {when:%Y-%m-%d}"


def history(workspace: Workspace) -> list[dict[str, str | int | None]]:
    """Who was champion when, newest first: version, from, until, accuracy, data, by, why, stored. Times are UTC.

    `stored` is `deleted` where the version was deleted since; its time ends where the next one's begins.
    """
    from vggflow.tracking import connection
    from vggflow.tracking.registry import champions, decision_runs

    registry = connection.connect(workspace)
    found = champions.read(registry)
    there = {version.number: version.tags for version in found.versions}
    # Of deleted versions only the records of their promotions know anything.
    recorded = {n: tags for n, tags in decision_runs.promotions(registry).items() if n not in there}
    made = {n: champions.time_of(int(tags[decision_runs.MADE])) for n, tags in recorded.items()}
    return [
        _history_row(period, there.get(period.number), recorded.get(period.number, {}))
        for period in reversed(found.periods_in_use(made))
    ]


def _history_row(
    period: "PeriodInUse", version: Mapping[str, str] | None, recorded: Mapping[str, str]
) -> dict[str, str | int | None]:
    """A row of the history; what is known of a deleted version stands in the record of its promotion."""
    named = {f"promotion.{key}": recorded[key] for key in ("by", "reason") if key in recorded}
    tags = version if version is not None else {**recorded, **named}
    return {
        "version": period.number,
        "from": period.since,
        "until": period.until,
        "accuracy": tags.get("accuracy"),
        "data": tags.get("data.hash", "")[:6],
        "by": tags.get("promotion.by"),
        "why": tags.get("promotion.reason"),
        "stored": "yes" if version is not None else "deleted",
    }


def as_cells(row: Mapping[str, str | int | None]) -> list[str]:
    """A row of the history for people: local times to the minute."""
    short: dict[str, str | int | None] = dict(row)
    for key in ("from", "until"):
        if when := row[key]:
            short[key] = f"{datetime.fromisoformat(str(when)).astimezone():%Y-%m-%d %H:%M}"
    if row["accuracy"]:
        short["accuracy"] = f"{float(row['accuracy']):.3f}"
    return [str(value or "–") for value in short.values()]
