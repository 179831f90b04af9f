"""Images from a list with a label for each, as `vggflow suggest -o` writes it and a person fills it in."""

import hashlib
import os
from functools import partial
from pathlib import Path, PurePosixPath

from vggflow.data import csv_table
from vggflow.errors import DataError
from vggflow.importing.label_table import LabelledShape, class_in
from vggflow.importing.sources import Found, Item, Skipped, reason_to_skip, skipped

LABEL, IMAGE, DIGEST = "label", "image", "sha256"
SUFFIX = ".csv"


def opened(table: Path) -> tuple[Found, LabelledShape]:
    """The images that have a label, and their shape; rows without a label are left for later.

    All go to train: images that were chosen because they are hard would make valid and test harder than what comes.

    Raises:
        DataError: it is no such table, no row has a label, a label can't be a class, or an image has two.
    """
    header, *rows = csv_table.rows(table, None, "save it as UTF-8")
    missing = [name for name in (LABEL, IMAGE) if name not in header]
    if missing:
        raise DataError(
            f"{table} has no column {', '.join(missing)}: expected a table of `vggflow suggest -o`; a table that "
            "belongs to a folder is named with --labels"
        )
    cells = [dict(zip(header, row, strict=False)) for row in rows]
    filled = [row for row in cells if row.get(LABEL, "").strip()]
    if not filled:
        raise DataError(f"{table}: no row has a label yet: write classes into its column {LABEL}")
    found, classes = Found([], []), {}
    images = [table.parent / row.get(IMAGE, "").strip() for row in filled]
    # With the name of their folder: names that cameras give are soon taken.
    root = Path(os.path.commonpath([image.resolve().parent for image in images])).parent
    for row, image in zip(filled, images, strict=True):
        path = PurePosixPath(image.resolve().relative_to(root).as_posix())
        if path in classes:
            raise DataError(f"{table} names {image} more than once: leave one row for each image")
        classes[path] = class_in(table, row[LABEL].strip(), str(path))
        member = _member(image, path, row.get(DIGEST, "").strip())
        (found.items if isinstance(member, Item) else found.skipped).append(member)  # type: ignore[arg-type]
    left = len(cells) - len(filled)
    found.notes.extend([f"{left} rows of {table.name} have no label yet"] if left else [])
    return found, LabelledShape(None, f"labels from {table.name}: into train", classes, table.name)


def _member(image: Path, path: PurePosixPath, digest: str) -> Item | Skipped:
    if not image.is_file() or image.is_symlink():
        return skipped(str(path), "not there any more")
    size = image.stat().st_size
    reason = reason_to_skip(path, size)
    return skipped(str(path), reason) if reason else Item(path, size, partial(_read, image, digest))


def _read(image: Path, digest: str) -> bytes:
    content = image.read_bytes()
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("other bytes than were suggested")
    return content
