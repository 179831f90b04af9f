"""Old things away: what no alias, no champion, no rollback and none of the newest runs needs."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from vggflow import artifacts
from vggflow.commands import options
from vggflow.console import out, table
from vggflow.environment import state_folder
from vggflow.git_and_dvc.run import NowhereToBeFound
from vggflow.processes import servers
from vggflow.processes.locks import exclusive
from vggflow.workspace import Workspace

# `vggflow drift` looks at the last days; nobody asks what was asked for in spring.
ANSWERS_STAY = timedelta(days=90)


def command(
    context: typer.Context,
    keep: Annotated[int, typer.Option(help="How many candidates and runs stay, the newest.", min=1)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Removes old candidates, runs, features and cached data; never what a champion or a rollback needs."""
    removed = clean(options.workspace(context), keep, dry_run=dry_run)
    if as_json:
        options.print_json([removal.to_dict() for removal in removed])
        return
    cells = [
        [r.what, str(r.count), "–" if r.megabytes is None else f"{r.megabytes:.1f}", r.stays] for r in removed
    ]
    out.print(table("", ["would go" if dry_run else "gone", "count", "MB", "what stays"], cells))


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be.

    Attributes:
        what: Such as `candidate versions`.
        count: How many.
        megabytes: What that frees here, in units of 1,000,000 bytes; None where it is not known.
        stays: What was not touched, and why.
    """

    what: str
    count: int
    megabytes: float | None
    stays: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def clean(workspace: Workspace, keep: int, *, dry_run: bool = False) -> list[Removal]:
    """Removes what lies behind the `keep` newest candidates and runs; says what, and what it left.

    Waits for a stage that is at work on the workspace.
    """
    with exclusive(workspace.path(artifacts.STATE) / "stage.lock", f"{workspace.root}"):
        steps = (
            _mlflow(workspace, keep, dry_run),
            _dvc_cache(workspace, dry_run),
            _features(keep, dry_run),
            _prefect(workspace, keep, dry_run),
        )
        # The steps are generators: they work here, one after the other, while the lock is held.
        return [removal for step in steps for removal in step]


def _mlflow(workspace: Workspace, keep: int, dry_run: bool) -> Iterator[Removal]:
    from vggflow.tracking import connection, observed_answers, retention

    registry = connection.connect(workspace)
    found = retention.old(registry, keep)
    if not dry_run:
        retention.remove(registry, found)
    size = None if found.size_bytes is None else found.size_bytes / 1e6
    stays = f"{keep} newest, aliases, every version of {registry.names.name}"
    yield Removal("candidate versions", len(found.versions), None, stays)
    yield Removal("MLflow runs", len(found.runs), size, "runs of versions that stay, decisions")
    days = observed_answers.days_before(registry, datetime.now(UTC).date() - ANSWERS_STAY)
    if not dry_run:
        observed_answers.remove(registry, days)
    yield Removal(
        "days of kept answers", len(days), None, f"the last {ANSWERS_STAY.days} days, looks for drift"
    )


def _dvc_cache(workspace: Workspace, dry_run: bool) -> Iterator[Removal]:
    """The local cache only: the DVC remote is what `reproduce` and other machines restore from."""
    cache = workspace.root / ".dvc" / "cache"
    before = _files(cache)
    if not dry_run:
        # What no push has reached is nowhere else: all versions, and what stages computed.
        # Of an old commit something may be lost already, which is no reason to keep the rest twice.
        with suppress(NowhereToBeFound):
            workspace.dvc("push", "--all-commits", "--run-cache")
    # DVC asks before it removes, and nobody would answer.
    options = ["--dry"] if dry_run else ["--force"]
    # Not with --not-in-remote: that takes what the workspace uses too, once it is pushed.
    said = workspace.dvc("gc", "--workspace", *options)
    after = _files(cache)
    if dry_run:
        # The only number in what DVC prints is how many objects would go.
        count = next((int(word) for word in said.split() if word.isdigit()), 0)
        yield Removal("files of the DVC cache", count, None, "what the workspace uses; the DVC remote")
        return
    freed = (sum(before.values()) - sum(after.values())) / 1e6
    yield Removal(
        "files of the DVC cache", len(before) - len(after), freed, "what the workspace uses; the DVC remote"
    )


def _features(keep: int, dry_run: bool) -> Iterator[Removal]:
    from vggflow.features import limit

    # The last used comes first, so these are the kinds that were not used for longest.
    old = limit.contents(state_folder())[keep:]
    if not dry_run:
        limit.remove(state_folder(), [entry.kind for entry in old])
    size = sum(entry.size_bytes for entry in old) / 1e6
    yield Removal("kinds of features", len(old), size, f"{keep} last used; the others are computed again")


def _prefect(workspace: Workspace, keep: int, dry_run: bool) -> Iterator[Removal]:
    options = ["--keep", str(keep), *(["--dry-run"] if dry_run else [])]
    found = servers.ask_flows(workspace, "clean", *options)
    stays = f"{keep} newest of each flow, and all that are not over"
    yield Removal("Prefect flow runs", int(found["flow_runs"]), None, stays)
    if not dry_run:  # DVC says only of a workspace's own cache what would go
        freed = found["cached_bytes"] / 1e6
        stays = "what the workspace uses; all, while a run is at work here"
        yield Removal("files that workers here cached", int(found["cached_files"]), freed, stays)


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
