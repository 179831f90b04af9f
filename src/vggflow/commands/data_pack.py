"""`vggflow data pack` and `unpack`: images into shards, which DVC tracks as few files, and out of them again."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts, console
from vggflow import workspace as workspaces
from vggflow.commands import options, prepare
from vggflow.console import counted, say
from vggflow.processes.locks import exclusive
from vggflow.versioning import publish, reconcile
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.importing.packing import Packing, Progress

ShardMb = Annotated[int, typer.Option("--shard-mb", help="Megabytes of images in a shard.", min=1)]
SHARD_MB = 512
MEGABYTE = 10**6


def pack_command(
    context: typer.Context,
    shard_mb: ShardMb = SHARD_MB,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Packs the images of data/ into tar files, for data of more than some hundred thousand images."""
    from vggflow.importing.packing import pack

    def work(data: Path, progress: "Progress") -> "Packing":
        return pack(data, shard_mb * MEGABYTE, progress, merge=True)

    done = _change(options.workspace(context), "pack", work, commit=not no_commit)
    if as_json:
        options.print_json(done.to_dict())
    else:
        say(f"{counted(done.images, 'image')} packed into {counted(len(done.shards), 'shard')}")


def unpack_command(
    context: typer.Context,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the git commit to you.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Makes each image in the tar files of data/ a file of its own again."""
    from vggflow.importing.packing import unpack

    done = _change(options.workspace(context), "unpack", unpack, commit=not no_commit)
    if as_json:
        options.print_json(done.to_dict())
    else:
        say(f"{counted(done.images, 'image')} unpacked from {counted(len(done.shards), 'shard')}")


def _change(
    workspace: Workspace, what: str, work: "Callable[[Path, Progress], Packing]", *, commit: bool
) -> "Packing":
    """Packs or unpacks, then versions that like an import; what an earlier call did not get to is done now.

    Raises:
        UsageError: a commit made now would reach nobody.
        DataError: a shard or an image is damaged.
        VggflowError: there is no room on the disk.
    """
    if commit:
        publish.refuse_unpublishable(workspace)
    with reconcile.alone_on_data(workspace):
        prepare.refuse_obstacles(workspace)
        # What colleagues delivered comes in first, or the new version would be one without it.
        for line in reconcile.update(workspace, "data")[0]:
            console.tell(line)
        # A training at work would miss the files that it was told of.
        with (
            exclusive(workspace.path(artifacts.STATE) / "stage.lock", f"{workspace.root}"),
            console.progress(what) as advance,
        ):
            done = work(workspace.path(artifacts.DATA), advance)
        console.tell("versioning data with DVC")
        reconcile.add(workspace, "data")
        workspace.dvc("push", "data.dvc")
        if commit:
            workspaces.commit(workspace, ["data.dvc"], f"Data: {done.images} images {what}ed")
            publish.publish(workspace)
    return done
