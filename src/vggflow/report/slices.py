"""Accuracy on parts of the test images: by size, brightness, and any column that a team added."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.data import names
from vggflow.data.schema import COLUMNS
from vggflow.errors import UsageError
from vggflow.promotion.comparison import Comparison, right

PARTS = 4
# A column with more values than this, such as a photographer's name, shows its most frequent ones.
VALUES = 12
NOT_KNOWN = "not known"
SHORT_SIDE = "short side in px"


@dataclass(frozen=True)
class Slice:
    """The images that share a value, and the accuracy of each model on them.

    Attributes:
        by: What the images are cut by.
        value: The value, or a range of it.
        images: How many there are.
        challenger: The challenger's accuracy, 0 to 1.
        champion: The champion's; None if there is none.
    """

    by: str
    value: str
    images: int
    challenger: float
    champion: float | None


def with_columns(images: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows of the manifest with what a team knows besides: a CSV file of `path` and columns of any name.

    Args:
        images: Rows of a manifest.
        path: The file; where there is none, the rows stay as they are. Images that it does not name have no value.

    Raises:
        UsageError: it is no such table.
    """
    if not path.exists():
        return images
    try:
        known = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' errors are of these kinds
        raise UsageError(f"{path} is no CSV: {' '.join(str(error).split())}") from error
    taken = set(known.columns) & {*COLUMNS, SHORT_SIDE}
    written = known["path"].astype("str").map(names.composed) if "path" in taken else known.index
    # A column called like one of ours would stand twice in the table, and be cut by as either.
    if taken != {"path"} or written.duplicated().any():
        raise UsageError(
            f"{path} has columns {', '.join(map(str, known.columns))}: expected `path` as in the manifest, each "
            f"once, and no name of vggflow's own columns"
        )
    # A table that was typed has composed accents, whatever the files' names have.
    known = known.drop(columns="path").set_axis(pd.Index(written), axis=0)
    added = known.reindex(images["path"].map(names.composed)).set_axis(images.index, axis=0)
    return pd.concat([images, added], axis=1)


def slices(comparison: Comparison, images: pd.DataFrame) -> tuple[Slice, ...]:
    """Cuts the compared images by short side, brightness and every column that vggflow itself does not write.

    Args:
        comparison: Both models on the images that count.
        images: The rows of the manifest that were scored.
    """
    # In the order of the predictions, since rows are told by their place below; no path may be there twice.
    counted = comparison.challenger.predictions[["path"]].merge(images, on="path", how="left", validate="1:1")
    correct = right(comparison.challenger.predictions)
    other = right(comparison.champion.predictions) if comparison.champion and comparison.paired else None
    found = []
    for name, column in _columns(counted):
        for value, rows in _parts(column):
            champion = None if other is None else float(other[rows].mean())
            found.append(Slice(name, value, int(rows.sum()), float(correct[rows].mean()), champion))
    return tuple(found)


def _columns(images: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    short_side = images[["width", "height"]].min(axis=1)
    yield SHORT_SIDE, short_side
    yield "brightness", images["brightness"]
    for name in images.columns:
        if name not in COLUMNS:
            yield str(name), images[name]


def _parts(column: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The values of a column, or quarters of it where there are many numbers, each with its rows."""
    if column.nunique() <= 1:
        return
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > VALUES:
        yield from _quarters(column.astype("Float64"))
    else:
        for value in sorted(column.value_counts().index[:VALUES], key=str):
            # Where a value is missing the comparison is missing too, and is not "no" by itself.
            yield str(value), (column == value).fillna(False).to_numpy(dtype=bool)
    if column.isna().any():
        yield NOT_KNOWN, column.isna().to_numpy(dtype=bool)


def _quarters(numbers: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The quarters of a column by size, each named by its range, such as `0.12 – 0.31`."""
    # Where many values are equal, borders coincide: then there are fewer parts than four.
    cut = pd.qcut(numbers, PARTS, labels=False, duplicates="drop")
    for part in sorted(cut.dropna().unique()):
        rows = (cut == part).fillna(False).to_numpy(dtype=bool)
        low, high = f"{numbers[rows].min():.4g}", f"{numbers[rows].max():.4g}"
        yield low if low == high else f"{low} – {high}", rows
