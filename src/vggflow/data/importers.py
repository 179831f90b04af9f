"""Bringing images into the data folder: copied one by one, resumable, and never over other bytes."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vggflow.data import layout
from vggflow.data.sources import Item, Skipped, items
from vggflow.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[int, int], None]

_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
_UNFINISHED = ".importing"


@dataclass(frozen=True)
class ImportSummary:
    """What an import did: images per split and class, how many were there already, and what was left out."""

    images: dict[str, dict[str, int]]
    copied: int
    already_there: int
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def to_table(self) -> "Table":
        """Images per class and split, for the terminal."""
        from rich.table import Table

        splits = [split for split in layout.SPLITS if split in self.images]
        table = Table("class", *splits)
        for name in sorted({name for counts in self.images.values() for name in counts}):
            table.add_row(name, *(str(self.images[split].get(name, 0)) for split in splits))
        if not self.skipped:
            return table
        table.caption = "\n".join(
            f"{count} skipped: {reason}, such as {example}" for reason, count, example in self._reasons()
        )
        return table

    def _reasons(self) -> list[tuple[str, int, str]]:
        counts = Counter(skip.reason for skip in self.skipped)
        first = {skip.reason: skip.path for skip in reversed(self.skipped)}
        return [(reason, count, first[reason]) for reason, count in counts.most_common()]


def import_images(source: Path, data_folder: Path, progress: Progress | None = None) -> ImportSummary:
    """Copies a tree `{train,valid,test}/<class>/…` below the data folder.

    A file that is there already with the same bytes is left alone, so a killed import can be repeated.

    Raises:
        DataError: the source is of another shape, or a file is there already with other bytes.
    """
    _refuse_overlap(source, data_folder)
    found = list(items(source))
    planned: dict[str, Item] = {}
    skipped = [item for item in found if isinstance(item, Skipped)]
    for item in found:
        if isinstance(item, Item):
            target = _target(item.path)
            if isinstance(target, Skipped):
                skipped.append(target)
            else:
                planned[str(target)] = item
    if not planned:
        raise DataError(
            f"no images to import in {source}: expected {{train,valid,test}}/<class>/ with images"
        )
    copied = _copy_all(planned, data_folder, progress)
    return ImportSummary(_count(planned), copied, len(planned) - copied, tuple(skipped))


def _target(path: PurePosixPath) -> PurePosixPath | Skipped:
    split = _SPLIT_NAMES.get(path.parts[0].lower())
    if split is None:
        return Skipped(str(path), "not in a folder train, valid or test")
    if len(path.parts) < 3:
        return Skipped(str(path), "not in a class folder")
    if path.parts[1] == layout.UNLABELLED and split != "test":
        return Skipped(str(path), f"`{layout.UNLABELLED}` is kept for unlabelled test images")
    return PurePosixPath(split, *path.parts[1:])


def _copy_all(planned: dict[str, Item], data_folder: Path, progress: Progress | None) -> int:
    unfinished = data_folder / _UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    copied = 0
    try:
        for done, (target, item) in enumerate(planned.items(), start=1):
            copied += _copy(item, data_folder / target, unfinished / "file")
            if progress:
                progress(done, len(planned))
    finally:
        shutil.rmtree(unfinished)
    return copied


def _copy(item: Item, target: Path, beside: Path) -> bool:
    """Puts a file in place whole, or tells that it is there already."""
    content = item.read()
    if target.exists():
        if target.read_bytes() == content:
            return False
        raise DataError(
            f"{target} is there already with other bytes than {item.path}; nothing is overwritten: "
            "remove or rename one of them"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(target)
    return True


def _refuse_overlap(source: Path, data_folder: Path) -> None:
    inside, outside = source.resolve(), data_folder.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise DataError(f"{source} and {data_folder} lie within each other: import from another folder")


def _count(targets: Iterable[str]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for split, name in (PurePosixPath(target).parts[:2] for target in targets):
        counts.setdefault(split, {}).setdefault(name, 0)
        counts[split][name] += 1
    return counts
