"""Changes of labels in `data/`: images moved to another class, images left out by hash; all of them or none.

What is to be done is written down first. A kill leaves that, and whoever changes the data next moves the rest; `vggflow
data relabel`, run again, also versions it. Each step says by itself whether it was done.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from vggflow import artifacts, params_file
from vggflow.errors import DataError, VggflowError
from vggflow.files import read_json, write_json
from vggflow.workspace import Workspace

UNFINISHED = artifacts.STATE / "relabel.json"
# Those that were done, numbered, for undoing the last one.
DONE = artifacts.STATE / "relabelled"


@dataclass(frozen=True)
class LabelChanges:
    """What becomes of images.

    Attributes:
        moves: Where an image goes, by where it lies, both below `data/`.
        exclude: Images that are left out from now on, by their SHA-256.
        readmit: Images that are no longer left out.
        hashes: The SHA-256 of each image that moves, by where it lies.
        undoes: The record of what these take back; empty where they take nothing back.
        done: How far they are: `moved` when all images have moved and params.yaml says what is left out, `versioned`
            when DVC has that too; a commit is left then.
    """

    moves: Mapping[str, str]
    hashes: Mapping[str, str]
    exclude: tuple[str, ...] = ()
    readmit: tuple[str, ...] = ()
    undoes: str = ""
    done: Literal["", "moved", "versioned"] = ""

    def __bool__(self) -> bool:
        return bool(self.moves or self.exclude or self.readmit)

    @property
    def changes_params(self) -> bool:
        """Whether params.yaml is another one afterwards."""
        return bool(self.exclude or self.readmit)


def begin(workspace: Workspace, changes: LabelChanges) -> None:
    """Writes down what is to be done; from here on it is done, sooner or later."""
    write_json(workspace.path(UNFINISHED), asdict(changes))


def unfinished(workspace: Workspace) -> LabelChanges | None:
    """What was begun and not finished."""
    return _read(workspace.path(UNFINISHED))


def carry_out(workspace: Workspace) -> None:
    """Moves what is left of the changes that were begun; called where nobody else changes the data."""
    changes = unfinished(workspace)
    if changes is None or changes.done:
        return
    data = workspace.path(artifacts.DATA)
    from vggflow.importing.packing import take_out  # pandas, late

    take_out(data, changes.moves)
    for source, target in changes.moves.items():
        if (data / source).exists() and not (data / target).exists():
            _move(data / source, data / target)
    if changes.changes_params:
        params_file.change_excluded_images(workspace.path(artifacts.PARAMS), changes.exclude, changes.readmit)
    begin(workspace, replace(changes, done="moved"))


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise VggflowError(
            f"{source} can't be moved to {target}: {error.strerror}: mend that, then run the same command again; it "
            "goes on from there"
        ) from error


def moved(workspace: Workspace) -> bool:
    """Whether images have moved that DVC does not have at their new places yet."""
    changes = unfinished(workspace)
    return changes is not None and changes.done == "moved"


def remember_versioned(workspace: Workspace) -> None:
    """DVC has the data as they are now."""
    changes = unfinished(workspace)
    if changes is not None and changes.done == "moved":
        begin(workspace, replace(changes, done="versioned"))


def finish(workspace: Workspace) -> None:
    """Keeps the changes that were begun, versioned now, for an undo; forgets what they take back."""
    changes, folder = unfinished(workspace), workspace.path(DONE)
    if changes is None:
        return
    if changes.undoes:
        (folder / changes.undoes).unlink(missing_ok=True)
        workspace.path(UNFINISHED).unlink()
        return
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.stem) for path in _records(workspace)]
    workspace.path(UNFINISHED).rename(folder / f"{max(numbers, default=0) + 1}.json")


def undoing(workspace: Workspace) -> LabelChanges:
    """What takes back the changes that were done last.

    Raises:
        DataError: there are none.
    """
    path = max(_records(workspace), key=lambda each: int(each.stem), default=None)
    done = _read(path) if path else None
    if path is None or done is None:
        raise DataError("nothing was relabelled here that could be taken back")
    moves = {target: source for source, target in done.moves.items()}
    hashes = {done.moves[source]: digest for source, digest in done.hashes.items()}
    return LabelChanges(moves, hashes, done.readmit, done.exclude, undoes=path.name)


def _records(workspace: Workspace) -> list[Path]:
    return [path for path in workspace.path(DONE).glob("*.json") if path.stem.isdigit()]


def refuse_changed(data: Path, changes: LabelChanges) -> None:
    """Before anything moves: each image is where it is said to be, with its bytes, and its new place is free.

    Raises:
        DataError: one is not.
    """
    from vggflow.data.contents import Contents

    contents = Contents(data)
    for source, target in changes.moves.items():
        if not contents.has(source):
            raise DataError(f"{source} is not in data/ any more: nothing was moved")
        if contents.place(source).sha256() != changes.hashes[source]:
            raise DataError(f"{source} has other bytes than it had: nothing was moved")
        if contents.has(target) or (data / target).exists():
            raise DataError(f"{target} is there already, so {source} can't go there: nothing was moved")


def _read(path: Path) -> LabelChanges | None:
    if not path.exists():
        return None
    found = read_json(path)
    lists = {name: tuple(found[name]) for name in ("exclude", "readmit")}
    return LabelChanges(**(found | lists))
