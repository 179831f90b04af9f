"""`vggflow data relabel`: carries out what a person decided about suspected label errors, and takes it back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vggflow import artifacts, console
from vggflow import workspace as workspaces
from vggflow.commands import options, prepare
from vggflow.console import say
from vggflow.errors import UsageError
from vggflow.versioning import label_changes, publish, reconcile
from vggflow.versioning.label_changes import LabelChanges
from vggflow.workspace import Workspace

SHOWN = 5
PARAMS = str(artifacts.PARAMS)


def relabel_command(
    context: typer.Context,
    table: Annotated[
        Path | None, typer.Argument(metavar="CSV", help="A table of `vggflow audit -o` with decisions.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was done last.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Moves images to the classes that a person decided on, leaves others out, and versions that with DVC and git."""
    from vggflow.processes import servers

    workspace = options.workspace(context)
    # Run without anything it finishes what was cut off.
    if undo == (table is not None) and (undo or not label_changes.unfinished(workspace)):
        raise UsageError("name a table of `vggflow audit -o`, or --undo")
    done = relabel(workspace, table, dry_run=dry_run, commit=not no_commit)
    if done.news:
        servers.announce(workspace)
    if as_json:
        options.print_json(done.to_dict())
        return
    for line in done.lines:
        say(line)


@dataclass(frozen=True)
class Relabelled:
    """What became of images, in paths below `data/`.

    Attributes:
        moved: Where each went, by where it lay.
        excluded: Hashes of those that are left out from now on.
        readmitted: Hashes of those that are no longer left out.
        news: Whether there is anything for others to hear of.
    """

    moved: Mapping[str, str]
    excluded: tuple[str, ...]
    readmitted: tuple[str, ...]
    news: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """Counts, and the first images."""
        counts = [f"{len(self.moved)} moved", f"{len(self.excluded)} left out"]
        counts += [f"{len(self.readmitted)} no longer left out"] if self.readmitted else []
        shown = [f"{source} → {target}" for source, target in self.moved.items()]
        shown += [f"left out: {each}" for each in self.excluded]
        more = [f"… and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
        return [", ".join(counts), *shown[:SHOWN], *more]


def relabel(
    workspace: Workspace, table: Path | None, *, dry_run: bool = False, commit: bool = True
) -> Relabelled:
    """Carries out the decisions of a table, or takes the last ones back, and ends as an import does.

    All of it is looked at before anything moves. What a kill cut off is finished first, and then nothing else is done.

    Args:
        workspace: Whose data.
        table: What `vggflow audit -o` wrote, with decisions; None takes back what was done last.
        dry_run: Whether nothing is done.
        commit: Whether git commits it.

    Raises:
        UsageError: a decision can't be carried out, or a commit made now would reach nobody.
        DataError: there is nothing to take back, or an image is no longer as it was left.
    """
    if commit and not dry_run:
        publish.refuse_unpublishable(workspace)
    # Looked for before the lock, which moves what is left of it.
    cut_off = label_changes.unfinished(workspace)
    if cut_off and dry_run:
        raise UsageError("an earlier relabelling was cut off: run it without --dry-run, which finishes it")
    with reconcile.alone_on_data(workspace):
        prepare.refuse_obstacles(workspace)
        if not dry_run:
            # What colleagues delivered comes in first, or the new version would be one without it.
            for line in reconcile.update(workspace, "data")[0]:
                console.tell(line)
        # Another process may have been at it, and have finished.
        if cut_off and label_changes.unfinished(workspace):
            console.tell("an earlier relabelling was cut off: it is finished now, and nothing else was done")
            return _version(workspace, cut_off, commit)
        changes = _changes(workspace, table)
        if dry_run or not changes:
            return _told(changes, news=False)
        if changes.changes_params and commit:
            _refuse_edited_params(workspace)
        label_changes.begin(workspace, changes)
        label_changes.carry_out(workspace)
        return _version(workspace, changes, commit)


def _changes(workspace: Workspace, table: Path | None) -> LabelChanges:
    data = workspace.path(artifacts.DATA)
    if table is None:
        changes = label_changes.undoing(workspace)
        label_changes.refuse_changed(data, changes)
        return changes
    from vggflow.audit import decisions

    excluded = workspace.settings().validate_.exclude_images
    made = decisions.read(table)
    moves = decisions.moves(table, made, data, excluded)
    hashes = {each.path: each.sha256 for each in made if each.path in moves}
    out = dict.fromkeys(each.sha256 for each in made if not each.target and each.sha256 not in excluded)
    return LabelChanges(moves, hashes, tuple(out))


def _version(workspace: Workspace, changes: LabelChanges, commit: bool) -> Relabelled:
    """DVC, a commit and the remotes, as far as that was not done yet."""
    console.tell("versioning data with DVC")
    reconcile.add(workspace, "data")
    workspace.dvc("push", "data.dvc")
    news = False
    if commit:
        paths = ["data.dvc", PARAMS] if changes.changes_params else ["data.dvc"]
        word = "taken back, " if changes.undoes else ""
        message = f"Labels: {word}{len(changes.moves)} images moved, {len(changes.exclude)} left out"
        committed = workspaces.commit(workspace, paths, message)
        # Of an earlier try, where this one had nothing to commit.
        newest = workspace.git("log", "-1", "--format=%s").strip() == message
        # Before the push: where that fails, it is `git push` that is left, which the message says.
        label_changes.finish(workspace)
        pushed = publish.publish(workspace, with_newest=newest and changes.changes_params)
        news = pushed or committed
    else:
        label_changes.finish(workspace)
    return _told(changes, news=news)


def _told(changes: LabelChanges, *, news: bool) -> Relabelled:
    return Relabelled(changes.moves, changes.exclude, changes.readmit, news)


def _refuse_edited_params(workspace: Workspace) -> None:
    """A commit takes all of a file: somebody's other edits would go with it.

    Raises:
        UsageError: there are such edits.
    """
    if workspace.git("status", "--porcelain", "--untracked-files=no", "--", PARAMS).strip():
        raise UsageError(
            f"{PARAMS} has changes that are not committed, and what is left out is written there: commit them "
            "first; nothing was moved"
        )
