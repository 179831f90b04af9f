"""Bringing images into the data folder: copied one by one, resumable, and never over other bytes."""

import hashlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vggflow.data import shapes
from vggflow.data.holdings import Holdings, Name
from vggflow.data.import_summary import ImportSummary, Tally, in_short
from vggflow.data.layout import UNLABELLED, why
from vggflow.data.shapes import Place, Shape
from vggflow.data.sources import Item, Limits, Skipped, opened
from vggflow.data.splitting import Shares, choose_split, group_of
from vggflow.errors import DataError, VggflowError

__all__ = ["ImportOptions", "ImportSummary", "Limits", "Shares", "import_images"]

Progress = Callable[[int, int], None]

_UNFINISHED = ".importing"


@dataclass(frozen=True)
class ImportOptions:
    """How to import: what to divide, how much of an archive to accept, and whether only to look."""

    shares: Shares = field(default_factory=Shares)
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False


def import_images(
    source: Path,
    data_folder: Path,
    progress: Progress | None = None,
    options: ImportOptions | None = None,
) -> ImportSummary:
    """Copies the images of a folder, zip or tar below the data folder, in the shapes that `shapes` knows.

    A labelled image whose bytes are in its class already stays where it is, whatever its name is, unless the
    source puts it into another split as a copy of another name. So a killed import can be repeated, and a later one
    with other shares moves nothing. One import at a time may write to a data folder.

    Args:
        progress: called with the images done and the images in total.

    Raises:
        DataError: the source is missing, empty, damaged or too large, or a file is there already with other
            bytes.
        VggflowError: a file can't be written.
    """
    options = options or ImportOptions()
    _refuse_overlap(source, data_folder)
    with opened(source, options.limits) as found:
        items = [item for item in found if isinstance(item, Item)]
        tally = Tally([skip for skip in found if isinstance(skip, Skipped)])
        if not items and tally.skipped:
            raise DataError(f"no images to import from {source}: {'; '.join(in_short(tally.skipped))}")
        shape = shapes.recognise([item.path for item in items], options.shares)
        placed = list(_placed(items, shape, tally))
        names = Counter(_name(item, place) for item, place in placed)
        there = Holdings(data_folder, names, options.shares.group)
        _refuse_full_disk(names, there, data_folder)
        shape = shapes.beside(shape, there.splits_of_others)
        intake = _Intake(data_folder, names, there, shape.shares)
        with _workbench(data_folder, options.dry_run) as beside:
            for done, (item, place) in enumerate(placed, start=1):
                intake.take(item, place, tally, beside)
                if progress:
                    progress(done, len(placed))
    return tally.summary(shape.description, dry_run=options.dry_run)


def _placed(items: Iterable[Item], shape: Shape, tally: Tally) -> Iterator[tuple[Item, Place]]:
    for item in items:
        place = shape.place(item.path)
        if isinstance(place, Skipped):
            tally.skipped.append(place)
        else:
            yield item, place


def _name(item: Item, place: Place) -> Name:
    return Name(place.class_name, place.rest, item.size)


class _Intake:
    """Takes images in one by one, each to where its bytes or its group are already, else to its place.

    Args:
        names: of all images that come; of copies among them each is taken, for the gate to judge.
        shares: how train is divided; null where each image's place tells its split.
    """

    def __init__(
        self, data_folder: Path, names: "Counter[Name]", there: Holdings, shares: Shares | None
    ) -> None:
        self._data_folder, self._names, self._there, self._shares = data_folder, names, there, shares
        # Only what has one name twice can meet itself.
        self._several = Counter(PurePosixPath(name.class_name, name.rest) for name in names.elements())
        self._taken: dict[PurePosixPath, bytes] = {}

    def take(self, item: Item, place: Place, tally: Tally, beside: Path | None) -> None:
        """Copies an image by way of the file `beside`; without one it only looks."""
        try:
            content = item.read()
        except (OSError, ValueError) as error:
            tally.skipped.append(Skipped(str(item.path), why(error)))
            return
        name = _name(item, place)
        alike = self._there.like(content, place.class_name)
        # A file that another image of this source is called by is that one, not this one.
        home = next((path for path in alike if self._is_of(name, path)), None)
        if home and place.class_name != UNLABELLED and self._stays(place, home):
            tally.count(home, copied=False)
            return
        split = place.split or self._split(place, content, alike)
        target = PurePosixPath(split, place.class_name, place.rest)
        tally.count(target, copied=self._copy(content, item, target, beside))

    def _stays(self, place: Place, home: PurePosixPath) -> bool:
        """Whether an image is the one that is there, rather than a copy that the source puts into another split.

        Such a copy is taken: the gate shows it, nobody hides it.
        """
        said = place.split or ("train" if self._shares is None else None)
        if said in (None, home.parts[0]):
            return True
        return place.split is None and place.rest == PurePosixPath(*home.parts[2:])

    def _is_of(self, name: Name, path: PurePosixPath) -> bool:
        other = name._replace(rest=PurePosixPath(*path.parts[2:]))
        return other == name or other not in self._names

    def _split(self, place: Place, content: bytes, alike: list[PurePosixPath]) -> str:
        if self._shares is None:
            return "train"
        if alike:
            return alike[0].parts[0]
        path = PurePosixPath(place.class_name, place.rest)
        group = group_of(path, self._shares.group)
        known = self._there.split_of_group(group) if group is not None else None
        return known or choose_split(path, content, self._shares)

    def _copy(self, content: bytes, item: Item, target: PurePosixPath, beside: Path | None) -> bool:
        """Puts a file in place whole, or tells that it is there already."""
        path, digest = self._data_folder / target, hashlib.sha256(content).digest()
        try:
            there = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else self._taken.get(target)
            if there is None and beside and not path.exists():
                _write(content, beside, path)
        except OSError as error:
            raise VggflowError(
                f"{path} can't be written: {why(error)}; mend that and import again: it goes on from there"
            ) from error
        if there not in (None, digest) or path.is_dir():
            raise DataError(
                f"{path} is there already with other bytes than {item.path}; nothing is overwritten: "
                "remove or rename one of them"
            )
        if self._several[target.relative_to(target.parts[0])] > 1:
            self._taken[target] = digest
        return there is None


def _write(content: bytes, beside: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


@contextmanager
def _workbench(data_folder: Path, dry_run: bool) -> Iterator[Path | None]:
    """A file to write to before it gets its name, on the same file system; none for a dry run."""
    if dry_run:
        yield None
        return
    folder = data_folder / _UNFINISHED
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VggflowError(f"{data_folder} can't be written to: {why(error)}") from error
    try:
        yield folder / uuid.uuid4().hex
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_overlap(source: Path, data_folder: Path) -> None:
    inside, outside = source.resolve(), data_folder.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise DataError(f"{source} and {data_folder} lie within each other: import from another folder")


def _refuse_full_disk(names: "Counter[Name]", there: Holdings, data_folder: Path) -> None:
    needed = sum(name.size * count for name, count in names.items() if name not in there.names)
    existing = next(folder for folder in (data_folder, *data_folder.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{needed / 1024**3:.1f} GiB of images don't fit into the {free / 1024**3:.1f} GiB left "
            f"on the disk of {data_folder}: make room first"
        )
