"""Bringing images into the data folder: copied one by one, resumable, and never over other bytes."""

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vggflow.data import layout
from vggflow.data.class_folders import class_folders
from vggflow.data.layout import why
from vggflow.data.places import UNFINISHED
from vggflow.errors import DataError, VggflowError
from vggflow.importing import folder_shapes, labelled_list
from vggflow.importing import label_table as labels
from vggflow.importing.already_there import ExistingImages, Name
from vggflow.importing.folder_shapes import ClassFolder, Place, Shape, Ways
from vggflow.importing.importer import Importer, name_of
from vggflow.importing.label_table import LabelFile, LabelledShape
from vggflow.importing.sources import Found, Item, Limits, Skipped, opened
from vggflow.importing.splitting import Shares
from vggflow.importing.summary import ImportSummary, Tally

__all__ = ["ImportOptions", "ImportSummary", "LabelFile", "Limits", "Shares", "import_images"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportOptions:
    """How to import: what to divide, how much of an archive to accept, and whether only to look.

    Attributes:
        shares: how images without a split are divided.
        limits: of archives.
        dry_run: whether to write nothing.
        labels: a table that tells the classes.
        encoding: of names in archives, and of the table, that don't say it themselves, such as `cp1252`.
        class_folder: which folder is the class where folders lie in each other.
        unlabelled: whether a folder `unknown` holds images without a label wherever it is.
    """

    shares: Shares = field(default_factory=Shares)
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False
    labels: LabelFile | None = None
    encoding: str | None = None
    class_folder: ClassFolder | None = None
    unlabelled: bool = False

    def __post_init__(self) -> None:
        try:
            # Only looks the name up; it refuses what encodes no text, such as `zip`, too.
            "".encode(self.encoding or "utf-8")
        except LookupError as error:
            raise DataError(
                f"--encoding {self.encoding} is none: such as cp1252, cp850, shift_jis"
            ) from error


def import_images(
    source: Path,
    data_folder: Path,
    progress: Progress | None = None,
    options: ImportOptions | None = None,
) -> ImportSummary:
    """Copies the images of a folder, zip or tar below the data folder, in the shapes that `shapes` knows.

    A labelled image whose bytes are in its class already stays where it is, whatever its name is, unless the
    source puts it into another split as a copy of another name. So a killed import can be repeated, and a later one
    with other shares moves nothing. One import at a time may write to a data folder. An import that would lose more
    than it brings takes back what it copied.

    Args:
        progress: called with the images done and the images in total.

    Raises:
        DataError: the source is missing, empty, damaged, too large or of no known shape, more of it is lost than
            comes, or a file is there already with other bytes.
        VggflowError: a file can't be written.
    """
    options = options or ImportOptions()
    _refuse_overlap(source, data_folder)
    with _opened(source, options) as (found, listed):
        tally = Tally(found.skipped, found.notes)
        # Asked as soon as anything is known, before a byte is copied, and for the last time when all is read.
        if tally.skipped:
            tally.refuse_loss(source, len(found.items))
        shape = listed or _shape(found.items, data_folder, options, tally)
        placed = _placed(found.items, shape, data_folder, tally)
        tally.refuse_loss(source, len(placed))
        coming = Counter(name_of(item, place) for item, place in placed)
        there = ExistingImages(data_folder, coming, options.shares.group)
        _refuse_full_disk(coming, there, data_folder)
        shape = folder_shapes.beside(shape, there.splits_of_others) if isinstance(shape, Shape) else shape
        importer = Importer(data_folder, coming, there, shape.shares)
        with _temporary_file(data_folder, options.dry_run) as temporary:
            for done, (item, place) in enumerate(placed, start=1):
                importer.take(item, place, tally, temporary)
                if progress:
                    progress(done, len(placed))
            with importer.taken_back_on_error():
                tally.refuse_loss(source)
    return tally.summary(shape.description, dry_run=options.dry_run)


@contextmanager
def _opened(source: Path, options: ImportOptions) -> Iterator[tuple[Found, LabelledShape | None]]:
    """What a source holds; a list tells the classes too."""
    if source.suffix.lower() == labelled_list.SUFFIX and source.is_file() and not options.labels:
        yield labelled_list.opened(source)
        return
    with opened(source, options.limits, options.encoding) as found:
        yield found, None


def _shape(
    items: Sequence[Item], data_folder: Path, options: ImportOptions, tally: Tally
) -> Shape | LabelledShape:
    paths = [item.path for item in items]
    if options.labels:
        shape, notes = labels.labelled(paths, options.labels, options.shares)
        tally.notes += notes
        return shape
    known = frozenset(layout.known_classes(data_folder))
    return folder_shapes.recognise(
        paths, options.shares, Ways(options.class_folder, options.unlabelled, known)
    )


def _placed(
    items: Iterable[Item], shape: Shape | LabelledShape, data_folder: Path, tally: Tally
) -> list[tuple[Item, Place]]:
    """Where each image belongs, in classes that are called one thing only."""
    places = [(item, shape.place(item.path)) for item in items]
    tally.skipped += [place for _, place in places if isinstance(place, Skipped)]
    placed = [(item, place) for item, place in places if isinstance(place, Place)]
    called, notes = class_folders(
        {place.class_name for _, place in placed}, layout.known_classes(data_folder)
    )
    tally.notes += notes
    return [(item, replace(place, class_name=called[place.class_name])) for item, place in placed]


@contextmanager
def _temporary_file(data_folder: Path, dry_run: bool) -> Iterator[Path | None]:
    """A file to write to before it gets its name, on the same file system; none for a dry run."""
    if dry_run:
        yield None
        return
    folder = data_folder / UNFINISHED
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


def _refuse_full_disk(names: "Counter[Name]", there: ExistingImages, data_folder: Path) -> None:
    needed = sum(name.size * count for name, count in names.items() if name not in there.names)
    # The data folder need not be there yet, and only what is there has a disk.
    existing = next(folder for folder in (data_folder, *data_folder.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{needed / 1024**3:.1f} GiB of images don't fit into the {free / 1024**3:.1f} GiB left "
            f"on the disk of {data_folder}: make room first"
        )
