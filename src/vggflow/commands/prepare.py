"""What comes before the first stage: data and start weights are there, and the workspace follows this vggflow."""

import os
from pathlib import Path

from vggflow import artifacts, console
from vggflow import workspace as workspaces
from vggflow.errors import DataError, DataRefused, WeightsUnreachable
from vggflow.versioning import data_versions, publish, reconcile
from vggflow.workspace import Workspace


def prepare(workspace: Workspace) -> list[str]:
    """Data and start weights are there and versioned, and the workspace follows this vggflow; says what it did.

    Raises:
        DataError: there is no data, here or on the DVC remote; or files are gone by nobody's word.
    """
    said = []
    with reconcile.alone_on_data(workspace):
        for tracked in data_versions.TRACKED:
            _require_tracked(workspace, tracked)
        refuse_obstacles(workspace)
        if workspaces.follow_pipeline(workspace):
            said.append(
                f"{artifacts.PIPELINE} is this vggflow's now, in place of an earlier one's: commit it"
            )
        if differences := workspaces.follow_version(workspace):
            said.append(f"stages run again, since results depend on it: {differences}")
        said += reconcile.bring_together(workspace, "data")
        # After both sides are together: a delivery may have filled the class.
        _refuse_empty_classes(workspace.path(artifacts.DATA))
        said += _prepare_weights(workspace)
    _require_splits(workspace)
    if waiting := publish.waiting(workspace):
        said.append(waiting)
    return said


def _require_tracked(workspace: Workspace, tracked: str) -> None:
    remedy = {
        "data": "bring images in with `vggflow data import FOLDER`",
        "weights": "`vggflow init .` makes it",
    }
    # Not `exists`: a broken link is there too, and is refused as a link further on.
    there = os.path.lexists(workspace.root / tracked)
    if not there and data_versions.entry(workspace, tracked) is None:
        raise DataError(f"no {tracked}/ in {workspace.root}: {remedy[tracked]}")


def _prepare_weights(workspace: Workspace) -> list[str]:
    """Start weights as versioned, and ImageNet's among them where they are asked for."""
    said, differs = reconcile.update(workspace, "weights")
    if fetched := _fetch_imagenet(workspace):
        said.append(fetched)
    if differs or fetched:
        reconcile.add(workspace, "weights")
    return said


def refuse_obstacles(workspace: Workspace) -> None:
    """Refuses links and other things in `data/` that DVC or the gate would stumble over."""
    from vggflow.data import layout

    data_versions.refuse_link(workspace, "data")
    if workspace.path(artifacts.DATA).exists():
        layout.refuse_obstacles(workspace.path(artifacts.DATA))


def _require_splits(workspace: Workspace) -> None:
    """What train needs, before DVC misses it in words of its own.

    Raises:
        DataError: a split to learn from is missing.
    """
    for split in (artifacts.TRAIN_DATA, artifacts.VALID_DATA):
        if not workspace.path(split).is_dir():
            raise DataError(
                f"no {split}/ in {workspace.root}: expected {split}/<class>/ with images; "
                "`vggflow data import` divides what has no splits"
            )


def _refuse_empty_classes(data: Path) -> None:
    """DVC does not see empty folders: the stage that would refuse them would not run.

    Raises:
        DataRefused: there are such classes.
    """
    from vggflow.data import layout

    empty = [
        str(folder)
        for folder in layout.class_folders(data)
        if folder.class_name != layout.UNLABELLED and not layout.holds_files(data, folder)
    ]
    if empty:
        raise DataRefused(
            f"data refused: no images in {', '.join(empty)}: bring some in, or remove the empty folder"
        )


def _fetch_imagenet(workspace: Workspace) -> str | None:
    """ImageNet's weights come into `weights/`, where DVC versions them: start weights are data too."""
    model = workspace.settings().model
    folder = workspace.path(artifacts.WEIGHTS)
    if model.weights != "imagenet":
        return None
    from vggflow.models import imagenet_weights

    with_top = model.head == "fc"
    if imagenet_weights.found(folder, with_top):
        return None
    console.tell("fetching ImageNet's weights, once")
    return f"ImageNet's weights fetched: {imagenet_weights.fetch_imagenet(folder, with_top).name}"


def version_weights(workspace: Workspace) -> None:
    """Start weights come into git with the data; where nobody can fetch them now, a retraining tries again."""
    said, differs = reconcile.update(workspace, "weights")
    for line in said:
        console.tell(line)
    fetched = None
    try:
        fetched = _fetch_imagenet(workspace)
    except WeightsUnreachable as error:
        console.tell(f"start weights are left for later: {error}")
    if differs or fetched:
        reconcile.add(workspace, "weights")
