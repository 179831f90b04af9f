"""What a person says about files that are gone from `data/` or `weights/`: they are meant to be, or they come back."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from vggflow import workspace as workspaces
from vggflow.commands import options
from vggflow.console import say
from vggflow.data.names import printable
from vggflow.errors import UsageError
from vggflow.versioning import data_versions, publish, reconcile
from vggflow.versioning.reconcile import Sides
from vggflow.workspace import Workspace

SHOWN = 5


def accept_command(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Says that data/ and weights/ are meant as they are, with what is gone from them."""
    from vggflow.processes import servers

    done, news = accept(options.workspace(context), dry_run=dry_run, commit=not no_commit)
    if news:
        servers.announce(options.workspace(context))
    if as_json:
        options.print_json([each.to_dict() for each in done])
        return
    for each in done:
        say(each.message)


def restore_command(context: typer.Context) -> None:
    """Brings back what is gone from data/ and weights/, or was overwritten under a name that is free again."""
    for line in restore(options.workspace(context)):
        say(line)


@dataclass(frozen=True)
class Accepted:
    """What became of a folder, in paths below it.

    Attributes:
        gone: files whose bytes are no longer there, dropped for everybody.
        added: files that are new here, or moved to where they are.
        brought: files that came from the committed version.
        removed: files that the committed version had dropped.
        notes: what was done beyond that, a line each.
    """

    folder: str
    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def message(self) -> str:
        """Counts, and the first paths of what is gone."""
        kinds = ("gone", "added", "brought", "removed")
        counts = [f"{len(getattr(self, kind))} {kind}" for kind in kinds if getattr(self, kind)]
        lines = [f"{self.folder}/: {', '.join(counts) or 'as versioned'}", *self.notes]
        lines += [f"gone: {printable(path)}" for path in self.gone[:SHOWN]]
        more = len(self.gone) - SHOWN
        return "\n".join([*lines, f"… and {more} more"] if more > 0 else lines)


def accept(
    workspace: Workspace, *, dry_run: bool = False, commit: bool = True
) -> tuple[list[Accepted], bool]:
    """Versions `data/` and `weights/` as they are, with what colleagues delivered and without what is gone here.

    It ends as an import does: with DVC's remote, a commit and git's remote. Where git waits for a merge of `data.dvc`
    or `weights.dvc`, both sides are put together instead, and the commit is left to who merges.

    Returns:
        What became of each folder, and whether there is anything new for others to hear of.

    Raises:
        UsageError: a commit made now would reach nobody.
        DataError: one path holds different bytes on both sides.
    """
    with reconcile.alone_on_data(workspace):
        # First of all: while git waits for a merge, nothing else can be committed.
        if any(data_versions.conflicting(workspace, tracked) for tracked in data_versions.TRACKED):
            return _merge(workspace, dry_run=dry_run), False
        if commit and not dry_run:
            publish.refuse_unpublishable(workspace)
        done = [_accept(workspace, tracked, dry_run) for tracked in data_versions.TRACKED]
        if dry_run:
            return done, False
        return done, _publish(workspace, done, commit)


def restore(workspace: Workspace) -> list[str]:
    """Brings back the files that are gone from `data/` and `weights/`; says what was done.

    Raises:
        DataError: another file has the name of one that is gone.
    """
    said = []
    with reconcile.alone_on_data(workspace):
        for tracked in data_versions.TRACKED:
            lines, _ = reconcile.update(workspace, tracked, "restore")
            said += lines or [f"{tracked}/: nothing is gone"]
    return said


def _accept(workspace: Workspace, tracked: str, dry_run: bool) -> Accepted:
    if data_versions.entry(workspace, tracked) is None:
        raise UsageError(
            f"there is no {tracked}.dvc in {workspace.root}: `vggflow data import` makes the first version"
        )
    if not (workspace.root / tracked).exists():
        notes = [f"{tracked}/ is not here"] if dry_run else reconcile.bring_together(workspace, tracked)
        return Accepted(tracked, notes=tuple(notes))
    if workspaces.status(workspace, tracked) == "same":
        if not dry_run:
            reconcile.update(workspace, tracked)
        return Accepted(tracked)
    sides = reconcile.look(workspace, tracked, "accept")
    # In a dry run too, which has to end as the act would.
    reconcile.refuse_clashes(sides)
    if not dry_run:
        reconcile.bring_together(workspace, tracked, "accept")
    return _summary(sides)


def _summary(sides: Sides) -> Accepted:
    plan = sides.plan
    parts = (plan.gone, plan.own, plan.bring, plan.drop)
    return Accepted(sides.tracked, *(tuple(sorted(part)) for part in parts))


def _publish(workspace: Workspace, done: list[Accepted], commit: bool) -> bool:
    # Before the commit, which must not name bytes that the remote lacks.
    workspace.dvc("push", "data.dvc", "weights.dvc")
    if not commit:
        return False
    gone, added = (sum(len(getattr(each, kind)) for each in done) for kind in ("gone", "added"))
    message = f"Data: accepted, {gone} files gone, {added} added"
    committed = workspaces.commit(workspace, ["data.dvc", "weights.dvc"], message)
    # `publish` first: it has to be called, whatever the commit was.
    return publish.publish(workspace) or committed


def _merge(workspace: Workspace, *, dry_run: bool) -> list[Accepted]:
    done = []
    for tracked in data_versions.TRACKED:
        waits = bool(data_versions.conflicting(workspace, tracked))
        notes = [f"git waits for a merge of {tracked}.dvc: both sides are put together"] if waits else []
        if waits and not dry_run:
            notes = reconcile.resolve(workspace, tracked)
        done.append(Accepted(tracked, notes=tuple(notes)))
    if not dry_run:
        workspace.dvc("push", "data.dvc", "weights.dvc")
        note = "both sides are together: end what git waits for (`git commit`, or `git rebase --continue`)"
        done.append(Accepted("data", notes=(note,)))
    return done
