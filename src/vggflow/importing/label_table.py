"""Labels that come in a table beside the images, as in `id,breed`: CSV, also as spreadsheets write it."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggflow.data import csv_table
from vggflow.data.images import EXTENSIONS
from vggflow.data.layout import UNLABELLED
from vggflow.data.names import composed, printable
from vggflow.errors import DataError
from vggflow.importing.folder_shapes import AS_THEY_ARE, Place, split_of
from vggflow.importing.sources import Skipped, skipped
from vggflow.importing.splitting import Shares

_IMAGE_COLUMNS = frozenset({
    "filename", "file_name", "file", "image", "image_name", "image_path", "path", "filepath", "file_path", "id",
    "image_id", "img",
})  # fmt: skip
_LABEL_COLUMNS = frozenset(["label", "class", "category", "class_name", "label_name"])
_SHOWN = 3


def _without_extension(path: PurePosixPath) -> str:
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


# What a table may call an image, from the most exact to the least.
_WAYS: tuple[Callable[[PurePosixPath], str], ...] = (str, lambda path: path.name, _without_extension)


@dataclass(frozen=True)
class LabelFile:
    """A table of labels, and which columns of it count; null where their names tell.

    `encoding` is null for UTF-8 and what begins with a byte order mark.
    """

    path: Path
    image_column: str | None = None
    label_column: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class LabelledShape:
    """A source whose table tells the classes; splits are folders, where there are any.

    Attributes:
        shares: how train is divided; null where it stays as it is.
        description: for people.
        classes: the class of each image that the table names.
        table: the table's name.
    """

    shares: Shares | None
    description: str
    classes: dict[PurePosixPath, str]
    table: str

    def place(self, path: PurePosixPath) -> Place | Skipped:
        """Where an image belongs: its folders stay, so that two of one name stay two."""
        split, name = split_of(path), self.classes.get(path)
        if name is None and split != "test":
            return skipped(str(path), f"without a label in {self.table}")
        if name is None:
            return Place("test", UNLABELLED, path)
        return Place(None if split in (None, "train") and self.shares else split or "train", name, path)


def labelled(
    paths: Collection[PurePosixPath], file: LabelFile, shares: Shares
) -> tuple[LabelledShape, list[str]]:
    """The shape of a source that has a table of labels, and what a person should know of how they fit.

    Raises:
        DataError: the table can't be read, has no such columns, says two things of an image, or fits no image.
    """
    rows = _rows(file)
    found = _matched(paths, rows, file.path)
    splits = {split_of(path) for path in found}
    divided = "valid" not in splits
    if "test" in splits:
        shares = Shares(shares.valid, 0.0, shares.group)
    description = f"labels from {file.path.name}: " + ("divided by content" if divided else AS_THEY_ARE)
    shape = LabelledShape(shares if divided else None, description, found, file.path.name)
    missing = len(rows) - len(found)
    notes = [f"{missing} rows of {file.path.name} name no image that is there"] if missing else []
    return shape, notes


def _matched(paths: Collection[PurePosixPath], rows: dict[str, str], table: Path) -> dict[PurePosixPath, str]:
    """The class of each image by whichever way of calling images fits most of them."""
    matches = []
    for way in _WAYS:
        called: dict[str, list[PurePosixPath]] = {}
        for path in paths:
            called.setdefault(composed(way(path)), []).append(path)
        asked = {composed(way(PurePosixPath(name))): label for name, label in rows.items()}
        # Where two rows are one when called so, folders matter.
        fits = asked if len(asked) == len(rows) else {}
        matches.append([(called[name], label) for name, label in fits.items() if name in called])
    # Of equals `max` takes the first, which is the most exact way.
    best = max(matches, key=len)
    if not best:
        names = ", ".join(map(printable, list(rows)[:_SHOWN]))
        example = printable(str(next(iter(paths), "no image")))
        raise DataError(
            f"no row of {table} names an image: it says {names}, and there are files such as {example}"
        )
    twice = next((found for found, _ in best if len(found) > 1), None)
    if twice is not None:
        both = " and ".join(printable(str(path)) for path in twice[:2])
        raise DataError(
            f"a row of {table} may be {both}: write paths into the table, or import one of the folders"
        )
    return {found[0]: label for found, label in best}


def _rows(file: LabelFile) -> dict[str, str]:
    """The label of each image that the table names, as it names it."""
    header, *lines = csv_table.rows(file.path, file.encoding, "say what it is with --encoding")
    image = _column(file, header, file.image_column, "image", _IMAGE_COLUMNS)
    label = _column(file, header, file.label_column, "label", _LABEL_COLUMNS)
    if image == label:
        raise DataError(f"{file.path}: column {header[image]} can't be both image and label: name two")
    odd = next((number for number, cells in enumerate(lines, start=2) if len(cells) != len(header)), None)
    if odd:
        raise DataError(f"{file.path}: row {odd} has not the {len(header)} columns of the first row: mend it")
    names = [_path_in(cells[image]) for cells in lines]
    classes = [
        class_in(file.path, cells[label].strip(), name) for cells, name in zip(lines, names, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        said = sorted({one for one, name in zip(classes, names, strict=True) if name == twice[0]})
        raise DataError(
            f"{file.path} names {len(twice)} images more than once, such as {printable(twice[0])} as "
            f"{' and '.join(map(printable, said))}: one row for each image"
        )
    return dict(zip(names, classes, strict=True))


def _path_in(cell: str) -> str:
    return composed(str(PurePosixPath(cell.strip().replace("\\", "/"))))


def class_in(table: Path, label: str, image: str) -> str:
    """A label that can be a folder.

    Raises:
        DataError: it can't; `unknown` is kept for images without a label.
    """
    # A label becomes the name of a folder: `../elsewhere` would lead out of the data.
    if not label or "/" in label or "\\" in label or "\0" in label or label.startswith("."):
        raise DataError(
            f"{table}: {printable(image)} has the label {printable(label)!r}, which can't be the name of a folder: "
            "mend it, or leave the row out"
        )
    if label.casefold() == UNLABELLED:
        raise DataError(
            f"{table}: the label {printable(label)} is kept for images without one: call the class something else, "
            "such as `other`; images without a label need no row"
        )
    return label


def _column(
    file: LabelFile, header: Sequence[str], said: str | None, what: str, usual: frozenset[str]
) -> int:
    fits = [
        number
        for number, name in enumerate(header)
        if (name == said if said is not None else name.casefold().replace(" ", "_") in usual)
    ]
    if len(fits) != 1:
        reason = (
            f"has no single column {printable(said)}" if said else f"does not tell which column is the {what}"
        )
        columns = ", ".join(map(printable, header))
        raise DataError(f"{file.path} {reason}; it has {columns}: name one with --{what}-column")
    return fits[0]
