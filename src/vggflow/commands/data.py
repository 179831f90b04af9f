"""`vggflow data import`, `diff` and `sample`: images in, versioned, compared, sampled."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from vggflow import artifacts, console
from vggflow import workspace as workspaces
from vggflow.commands import options, prepare
from vggflow.commands.data_pack import MEGABYTE, SHARD_MB, ShardMb
from vggflow.console import counted, out, say
from vggflow.errors import UsageError
from vggflow.processes.locks import if_free
from vggflow.versioning import data_versions, publish, reconcile
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.data.changes import Changes
    from vggflow.importing.import_images import ImportOptions
    from vggflow.importing.summary import ImportSummary


# DVC takes 600 MB of memory for so many.
MANY_FILES = 200_000


class Sharding(NamedTuple):
    """Whether images that come are packed into shards, as they always are where data lie in shards, and how large."""

    wanted: bool = False
    shard_bytes: int = SHARD_MB * MEGABYTE


AS_THEY_ARE = Sharding()


def import_command(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A folder, zip or tar with images, or a CSV of `suggest`.")],
    valid: Annotated[
        float, typer.Option(help="Share of images for valid, where the source has no splits.")
    ] = 0.1,
    test: Annotated[float, typer.Option(help="Share of images for test, likewise.")] = 0.1,
    group: Annotated[
        str | None, typer.Option(help="Regular expression: what it captures stays together.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV that names the class of each image.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Its column of images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column of classes.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="What names in an archive are written in, such as cp1252.")
    ] = None,
    class_folder: Annotated[
        Literal["first", "last"] | None,
        typer.Option(help="Which of the folders that lie in each other is the class."),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Folders called unknown hold images without a label.")
    ] = False,
    shards: Annotated[
        bool, typer.Option("--shards", help="Pack what comes into tar files, as `vggflow data pack` does.")
    ] = False,
    shard_mb: ShardMb = SHARD_MB,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Copies images into data/ and versions them with DVC and git."""
    from vggflow.importing.import_images import ImportOptions, LabelFile
    from vggflow.importing.splitting import Shares
    from vggflow.processes import servers

    if labels is None and (image_column or label_column):
        raise UsageError("--image-column and --label-column say what a table holds: name it with --labels")
    wanted = ImportOptions(
        Shares(valid, test, group),
        dry_run=dry_run,
        labels=LabelFile(labels, image_column, label_column, encoding) if labels else None,
        encoding=encoding,
        class_folder=class_folder,
        unlabelled=unlabelled,
    )
    sharding = Sharding(shards, shard_mb * MEGABYTE)
    summary, news = import_data(
        options.workspace(context), source, wanted, commit=not no_commit, sharding=sharding
    )
    if news:
        servers.announce(options.workspace(context))
    if as_json:
        options.print_json(summary.to_dict())
    else:
        out.print(summary.to_table())


def diff_command(context: typer.Context, as_json: options.AsJson = False) -> None:
    """Says what changed in data/ since the champion's data."""
    changes = data_diff(options.workspace(context))
    if as_json:
        options.print_json(changes.to_dict())
    else:
        out.print(changes.to_table())


def sample_command(
    context: typer.Context,
    per_class: Annotated[int, typer.Option(help="Images of each class in each split.", min=1)] = 20,
) -> None:
    """Fills data/sample/ with a small copy, for `vggflow retrain --sample`."""
    counts = sample_data(options.workspace(context), per_class)
    splits = ", ".join(f"{split} {sum(of_split.values())}" for split, of_split in counts.items())
    say(f"data/sample: {splits}")


def import_data(
    workspace: Workspace,
    source: Path,
    options: "ImportOptions",
    *,
    commit: bool = True,
    sharding: Sharding = AS_THEY_ARE,
) -> "tuple[ImportSummary, bool]":
    """Copies images into `data/`, then versions them: `dvc add`, `dvc push`, a git commit, a git push.

    What an earlier call did not get to, such as a push, is done now. One import at a time is at work on a
    workspace.

    Args:
        workspace: Where to.
        source: A folder, an archive or a list.
        options: How to import.
        commit: Whether git commits it.
        sharding: Whether what comes is packed.

    Returns:
        What was copied, and whether there is anything new for others to hear of.

    Raises:
        DataError: the source is of a shape nobody knows, or would overwrite a file.
    """
    if commit and not options.dry_run:
        publish.refuse_unpublishable(workspace)
    with reconcile.alone_on_data(workspace):
        return _import_data(workspace, source, options, commit, sharding)


def _import_data(
    workspace: Workspace, source: Path, options: "ImportOptions", commit: bool, sharding: Sharding
) -> "tuple[ImportSummary, bool]":
    from vggflow.importing.import_images import import_images

    if not options.dry_run:
        prepare.refuse_obstacles(workspace)
        if data_versions.entry(workspace, "data"):
            # What colleagues delivered comes in first, or the new version would be one without it.
            for line in reconcile.update(workspace, "data")[0]:
                console.tell(line)
    with console.progress("import") as advance:
        summary = import_images(source, workspace.path(artifacts.DATA), advance, options)
    if options.dry_run:
        return summary, False
    prepare.refuse_obstacles(workspace)
    _pack(workspace, sharding)
    console.tell("versioning data with DVC")
    reconcile.add(workspace, "data")
    prepare.version_weights(workspace)
    # Before the commit: whoever pulls that one finds its bytes on the remote.
    workspace.dvc("push", "data.dvc", "weights.dvc")
    if not commit:
        return summary, False
    message = f"Data: {summary.copied} files from {source.name}"
    committed = workspaces.commit(workspace, ["data.dvc", "weights.dvc"], message)
    # `publish` first, since it has to be called; without a git remote the commit alone is news.
    return summary, publish.publish(workspace) or committed


def _pack(workspace: Workspace, sharding: Sharding) -> None:
    """Packs what came, where that was asked for, or the data lie in shards."""
    from vggflow.data.places import shards

    data = workspace.path(artifacts.DATA)

    if not sharding.wanted and not shards(data):
        _advise_shards(data)
        return
    from vggflow.importing.packing import pack

    with if_free(workspace.path(artifacts.STATE) / "stage.lock") as nobody_reads:
        if not nobody_reads:
            console.tell(
                "a stage is at work on the images: what came stays files until the next import or `data pack`"
            )
            return
        with console.progress("pack") as advance:
            done = pack(data, sharding.shard_bytes, advance)
    console.tell(f"{counted(done.images, 'image')} packed into {counted(len(done.shards), 'shard')}")


def _advise_shards(data: Path) -> None:
    """Says what helps before DVC's memory gives out."""
    count = sum(len(names) for _, _, names in os.walk(data))
    if count > MANY_FILES:
        console.tell(
            f"{data.name}/ holds {count:,} files, for each of which DVC takes 3 KiB of memory: `vggflow data pack` "
            "puts them into tar files"
        )


def data_diff(workspace: Workspace) -> "Changes":
    """What changed in `data/` since the champion's data.

    Raises:
        UsageError: there is no champion, and no candidate either.
    """
    from vggflow.commands import reference
    from vggflow.data import changes
    from vggflow.gate import judge

    # Asked anew: since the last validation another model may have become champion.
    reference.fetch(workspace)
    before, _ = reference.read(workspace)
    if before is None:
        raise UsageError("no champion and no candidate to compare with: `vggflow retrain` makes the first")
    data, cache = workspace.path(artifacts.DATA), workspace.path(artifacts.STATE) / "scan"
    now = judge.look(data, workspace.settings().validate_, cache=cache, bars=console.progress)
    return changes.compare(before, now.manifest)


def sample_data(workspace: Workspace, per_class: int) -> dict[str, dict[str, int]]:
    """Fills `data/sample/` with a small copy of the data; returns the images per split and class."""
    from vggflow.data.sample import take_sample

    return take_sample(workspace.path(artifacts.DATA), per_class)
