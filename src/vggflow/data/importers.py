"""Bringing images into the data folder: copied one by one, resumable, and never over other bytes."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vggflow.data import layout
from vggflow.data.import_summary import ImportSummary, Tally
from vggflow.data.shapes import Place, Shape, recognise
from vggflow.data.sources import Item, Limits, Skipped, opened
from vggflow.data.splitting import Shares, choose_split
from vggflow.errors import DataError

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

    A file that is there already with the same bytes is left alone, so a killed import can be repeated.

    Args:
        progress: called with the images done and the images in total.

    Raises:
        DataError: the source is missing, empty or too large, or a file is there already with other bytes.
    """
    options = options or ImportOptions()
    _refuse_overlap(source, data_folder)
    with opened(source, options.limits) as found, _workbench(data_folder, options.dry_run) as beside:
        items = [item for item in found if isinstance(item, Item)]
        shape = recognise([item.path for item in items], _labelled_splits(data_folder), options.shares)
        tally = Tally([skip for skip in found if isinstance(skip, Skipped)])
        _refuse_full_disk(items, data_folder)
        for done, item in enumerate(items, start=1):
            _take(item, shape, data_folder, tally, beside)
            if progress:
                progress(done, len(items))
    return tally.summary(shape.description, dry_run=options.dry_run)


def _take(item: Item, shape: Shape, data_folder: Path, tally: Tally, beside: Path | None) -> None:
    place = shape.place(item.path)
    if isinstance(place, Skipped):
        tally.skipped.append(place)
        return
    try:
        content = item.read()
    except (OSError, ValueError) as error:
        tally.skipped.append(Skipped(str(item.path), str(error)))
        return
    target = _target(place, item, content, shape.shares)
    tally.count(target, copied=_copy(content, item.path, data_folder / target, beside))


def _target(place: Place, item: Item, content: bytes, shares: Shares | None) -> PurePosixPath:
    split = place.split or choose_split(item.path, content, shares or Shares())
    return PurePosixPath(split, place.class_name, place.rest)


def _copy(content: bytes, origin: PurePosixPath, target: Path, beside: Path | None) -> bool:
    """Puts a file in place whole, or tells that it is there already."""
    if target.exists():
        if target.is_file() and target.read_bytes() == content:
            return False
        raise DataError(
            f"{target} is there already with other bytes than {origin}; nothing is overwritten: "
            "remove or rename one of them"
        )
    if beside:
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(target)
    return True


@contextmanager
def _workbench(data_folder: Path, dry_run: bool) -> Iterator[Path | None]:
    """A file to write to before it gets its name, on the same file system; none for a dry run."""
    if dry_run:
        yield None
        return
    folder = data_folder / _UNFINISHED
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder / "file"
    finally:
        shutil.rmtree(folder)


def _refuse_overlap(source: Path, data_folder: Path) -> None:
    inside, outside = source.resolve(), data_folder.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise DataError(f"{source} and {data_folder} lie within each other: import from another folder")


def _refuse_full_disk(items: list[Item], data_folder: Path) -> None:
    needed = sum(item.size for item in items)
    existing = next(folder for folder in (data_folder, *data_folder.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{needed / 1024**3:.1f} GiB of images don't fit into the {free / 1024**3:.1f} GiB left "
            f"on the disk of {data_folder}: make room first"
        )


def _labelled_splits(data_folder: Path) -> set[str]:
    return {
        split
        for split in layout.SPLITS
        if (data_folder / split).is_dir()
        and any(
            child.is_dir() and child.name != layout.UNLABELLED for child in (data_folder / split).iterdir()
        )
    }
