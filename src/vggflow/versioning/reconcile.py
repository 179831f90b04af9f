"""`data/` and `weights/` are brought together with what git says they are, so that no delivery is lost.

A folder that is only older is brought up to date; where both sides moved, their files are put together by content;
what is gone from a folder is dropped only when a person says so. Each step may be cut off: bytes are written before
others are removed, and running it again does what is left.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vggflow import artifacts
from vggflow import workspace as workspaces
from vggflow.data.places import UNFINISHED
from vggflow.errors import DataError, VggflowError
from vggflow.files import NO_ROOM, write_text
from vggflow.git_and_dvc import dvc_file
from vggflow.processes.locks import exclusive
from vggflow.versioning import data_versions, label_changes, packed_images, verified_pull
from vggflow.versioning.data_versions import Cache, LastSeen, Version
from vggflow.versioning.three_way_merge import Listing, Plan, compare
from vggflow.workspace import Workspace

# What to do about files that are gone by nobody's word.
Gone = Literal["refuse", "accept", "restore"]
SHOWN = 3


@dataclass(frozen=True)
class Sides:
    """A folder now, its committed version, and what is known of where both come from."""

    tracked: str
    ours: dict[str, str]
    theirs: Version
    seen: Listing | None
    base: Listing | None
    plan: Plan = field(default_factory=Plan)

    @property
    def result(self) -> dict[str, str]:
        """What the folder holds when the plan was carried out."""
        kept = {path: md5 for path, md5 in self.ours.items() if path not in self.plan.drop}
        return kept | self.plan.bring


@contextmanager
def alone_on_data(workspace: Workspace) -> Iterator[None]:
    """One at a time changes what is in `data/` and `weights/`; what a kill cut off of a relabelling is done first."""
    with exclusive(workspace.path(artifacts.STATE) / "import.lock", f"the data of {workspace.root}"):
        label_changes.carry_out(workspace)
        yield


def bring_together(workspace: Workspace, tracked: str, gone: Gone = "refuse") -> list[str]:
    """Makes a folder and its `.dvc` file say the same, with what both had; returns what was done, a line each.

    Raises:
        DataError: files are gone by nobody's word, or one path holds different bytes on both sides.
        VggflowError: what the `.dvc` file names can't be had.
    """
    said, differs = update(workspace, tracked, gone)
    if differs:
        add(workspace, tracked)
    return said


def add(workspace: Workspace, tracked: str) -> None:
    """Versions a folder as it is. Called where it holds what its committed version holds."""
    workspace.dvc("add", tracked)
    version = data_versions.entry(workspace, tracked)
    if version and Cache(workspace).drop_half(version.md5):
        workspace.dvc("add", tracked)
    if version:
        data_versions.remember(workspace, tracked, version.md5)
    if tracked == "data":
        label_changes.remember_versioned(workspace)


def update(workspace: Workspace, tracked: str, gone: Gone = "refuse") -> tuple[list[str], bool]:
    """Brings into a folder what its `.dvc` file has beyond it.

    Returns:
        What was done, and whether the folder is now more than the file says.
    """
    data_versions.refuse_link(workspace, tracked)
    remove_unfinished(workspace, tracked)
    version, folder = data_versions.entry(workspace, tracked), workspace.root / tracked
    if version is None:
        return [f"{tracked}/ was not versioned yet: added as it is"], folder.exists()
    if not folder.exists():
        return _bring_back(workspace, tracked)
    if workspaces.status(workspace, tracked) == "same":
        data_versions.remember(workspace, tracked, version.md5)
        return [], False
    sides = look(workspace, tracked, gone)
    # All refusals come before the first file is touched.
    refuse_clashes(sides)
    if gone == "refuse":
        refuse_gone(sides)
    carry_out(workspace, sides)
    differs = sides.result != sides.theirs.files
    # Where it differs, `add` remembers it, after DVC has the bytes.
    if not differs:
        data_versions.remember(workspace, tracked, sides.theirs.md5, sides.theirs.files)
    return [told(sides)], differs


def look(workspace: Workspace, tracked: str, gone: Gone = "refuse") -> Sides:
    """Compares a folder that is there with its committed version; fetches that version where it is not here.

    Raises:
        VggflowError: that version can't be had.
    """
    version = data_versions.entry(workspace, tracked)
    if version is None:
        raise DataError(f"{tracked}/ is not versioned yet in {workspace.root}: `vggflow data import` does it")
    theirs = Cache(workspace).listing(version.md5)
    if theirs is None:
        theirs = verified_pull.fetch(workspace, tracked)
    return _sides(workspace, tracked, Version(version.md5, theirs), gone)


def _sides(workspace: Workspace, tracked: str, theirs: Version, gone: Gone) -> Sides:
    ours = data_versions.files_now(workspace, tracked, theirs.files)
    last = data_versions.last_seen(workspace, tracked)
    # A restoration was cut off: what is missing did not come yet.
    if last.restoring and gone == "refuse":
        gone = "restore"
    versions = _history(workspace, tracked, theirs.md5)
    seen, base = _known(last, versions)
    # Nobody loses by an older version becoming the newer one; only a person may mean that files shall go.
    older = last.seen is None or (gone != "accept" and last.seen.md5 in versions)
    # Images that moved back to where they were before make an older version too, and are meant.
    if older and not label_changes.moved(workspace) and data_versions.version_of(ours) in versions:
        # Taken as the common ground, so that nothing here counts as new, changed or gone.
        seen = base = ours
    return planned(workspace, Sides(tracked, ours, theirs, seen, base), gone)


def planned(workspace: Workspace, sides: Sides, gone: Gone) -> Sides:
    """The sides with a plan; gone files are in it where they are to be restored."""
    plan = compare(sides.ours, sides.theirs.files, sides.seen, sides.base)
    if plan.gone and sides.tracked == "data":
        # A killed `pack` or `unpack` left them in another form.
        missed = packed_images.missed(workspace.root / sides.tracked, plan.gone, Cache(workspace))
        plan = replace(plan, gone=missed)
    if gone == "restore":
        # Where another file has the place now, it stays, and what was there goes on being told as gone.
        free = {path: md5 for path, md5 in plan.gone.items() if path not in sides.ours}
        left = {path: md5 for path, md5 in plan.gone.items() if path in sides.ours}
        plan = Plan(plan.bring | free, plan.drop, plan.own, plan.moved, left, plan.clashes)
    return Sides(sides.tracked, sides.ours, sides.theirs, sides.seen, sides.base, plan)


def _history(workspace: Workspace, tracked: str, md5: str) -> list[str]:
    """The versions that a committed version comes from; none where nobody can tell, as before a commit."""
    if data_versions.committed(workspace, tracked) != md5:
        return []
    return data_versions.history(workspace, tracked)


def _known(last: LastSeen, versions: Sequence[str]) -> tuple[Listing | None, Listing | None]:
    """What the folder was last seen as, and the newest of what was seen that the committed version comes from."""
    common = (each for each in (last.seen, last.agreed) if each and each.md5 in versions)
    base = next(common, None)
    return last.seen.files if last.seen else None, base.files if base else None


def refuse_clashes(sides: Sides) -> None:
    """Two pictures under one name: somebody has to say which is which.

    Raises:
        DataError: there is such a path.
    """
    if clashes := sorted(sides.plan.clashes):
        more = f" (and {len(clashes) - 1} more)" if len(clashes) > 1 else ""
        raise DataError(
            f"{sides.tracked}/{clashes[0]}{more} holds other bytes here than in {sides.tracked}.dvc, and both are "
            "new: rename the one here, then try again; nothing was changed"
        )


def refuse_gone(sides: Sides) -> None:
    """What was here and is not any more may be an accident.

    Raises:
        DataError: there are such files.
    """
    if gone := sorted(sides.plan.gone):
        count = f"{len(gone)} files are" if len(gone) > 1 else "1 file is"
        raise DataError(
            f"{count} gone from {sides.tracked}/ or overwritten there, such as {sides.tracked}/{gone[0]}: "
            "`vggflow data restore` brings back what was there, `vggflow data accept` drops it for everybody"
        )


def carry_out(workspace: Workspace, sides: Sides) -> None:
    """Writes what is to come from DVC's cache, then removes what is to go."""
    root, plan = workspace.root / sides.tracked, sides.plan
    cache = Cache(workspace)
    if cache.lacks(plan.bring):
        verified_pull.fetch(workspace, sides.tracked)
    # Files that are gone may be of no committed version, which is all that `fetch` brings.
    verified_pull.refuse_missing(sides.tracked, {path: plan.bring[path] for path in cache.lacks(plan.bring)})
    # Written before anything is removed: a kill in between leaves files too many, never too few.
    # Below the folder itself, which may be a mount: a file can't be renamed from one file system to another.
    unfinished = root / UNFINISHED
    for path, md5 in plan.bring.items():
        _copy(cache.path(md5), root / path, md5, unfinished)
    shutil.rmtree(unfinished, ignore_errors=True)
    for path in plan.drop:
        _remove(root / path, root)


def told(sides: Sides) -> str:
    """What a plan did, in one line."""
    name, plan = sides.tracked, sides.plan
    kept = f"`git commit {name}.dvc` keeps that for other clones"
    if not plan.bring and not plan.drop:
        own = f"{_files(len(plan.own))} added" if plan.own else "taken"
        dropped = f", {_files(len(plan.gone))} dropped" if plan.gone else ""
        return f"{name}/ differs from {name}.dvc: {own} as it is now{dropped}; {kept}"
    came = f"{_files(len(plan.bring))} brought in, {len(plan.drop)} removed, as {name}.dvc says"
    if sides.result == sides.theirs.files:
        return f"{name}/ was not what {name}.dvc says: {came}"
    where = "" if sides.base is not None else "; where they parted is not known, so nothing was removed"
    return f"{name}/ and {name}.dvc both moved: {came}; {_files(len(plan.own))} kept from here{where}; {kept}"


def remove_unfinished(workspace: Workspace, tracked: str) -> None:
    """Removes what a killed import was writing; called where no import can be at work."""
    shutil.rmtree(workspace.root / tracked / UNFINISHED, ignore_errors=True)


def _bring_back(workspace: Workspace, tracked: str) -> tuple[list[str], bool]:
    """Fills a folder that is not here, also with what was here and never reached git."""
    # Before the first file comes: after a kill nobody takes the half for a decision.
    data_versions.remember_restoring(workspace, tracked)
    verified_pull.pull(workspace, tracked)
    sides = look(workspace, tracked, "restore")
    carry_out(workspace, sides)
    differs = sides.result != sides.theirs.files
    if not differs:
        data_versions.remember(workspace, tracked, sides.theirs.md5, sides.theirs.files)
    return [f"{tracked}/ pulled from the DVC remote"], differs


def _copy(source: Path, target: Path, md5: str, folder: Path) -> None:
    """Puts bytes in place whole, after a look whether they are those of the name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = folder / uuid.uuid4().hex
        # No link: who edits the picture would change the cache for all that use it.
        shutil.copyfile(source, beside)
        if data_versions.md5_of(beside) != md5:
            beside.unlink()
            raise VggflowError(
                f"{source} is damaged: remove it, then try again; it comes from the DVC remote anew"
            )
        # Else a power cut may leave the name with nothing behind it.
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        no_room = error.errno in NO_ROOM
        raise VggflowError(
            f"{target} can't be written: {error.strerror}: {'make room' if no_room else 'mend that'}, then "
            "try again; it goes on from there"
        ) from error


def _remove(path: Path, root: Path) -> None:
    path.unlink(missing_ok=True)
    # Neither git nor DVC knows empty folders: a clone would not have them.
    for folder in path.parents:
        if folder == root or any(folder.iterdir()):
            return
        folder.rmdir()


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def resolve(workspace: Workspace, tracked: str) -> list[str]:
    """Puts both sides of a `.dvc` file that git could not merge together in the folder, and versions that.

    Git keeps the sides until the file is added to its index, so this can be run again after a kill.
    """
    texts = data_versions.conflicting(workspace, tracked)
    if texts is None:
        return []
    path, said = workspace.root / f"{tracked}.dvc", []
    sides = [text for text in texts[1:] if text]
    for text in sides:
        said += _resolve_side(workspace, tracked, text, texts[0])
    workspace.git("add", "--", path.name)
    return said


def _resolve_side(workspace: Workspace, tracked: str, text: str, before: str | None) -> list[str]:
    path = workspace.root / f"{tracked}.dvc"
    # One side in the place of git's conflict marks, since DVC can't read those.
    write_text(path, text)
    if not (workspace.root / tracked).exists():
        said, _ = _bring_back(workspace, tracked)
        add(workspace, tracked)
        return said
    version = dvc_file.parse(path, text)
    theirs = Cache(workspace).listing(version.md5) or verified_pull.fetch(workspace, tracked)
    ours = data_versions.files_now(workspace, tracked, theirs)
    seen = data_versions.last_seen(workspace, tracked).seen
    base = Cache(workspace).listing(dvc_file.parse(path, before).md5) if before else None
    found = Sides(tracked, ours, Version(version.md5, theirs), seen.files if seen else None, base)
    sides = planned(workspace, found, "restore")
    refuse_clashes(sides)
    refuse_gone(sides)
    carry_out(workspace, sides)
    add(workspace, tracked)
    return [told(sides)]
