"""The predictions table: per image `path`, `sha256`, `truth`, and a probability `p:<class>` per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import DataError

PREFIX = "p:"
LABEL, ERROR = "label", "error"
# In the file beside the rows: how the answers were computed. Tables of older versions don't say.
ARITHMETIC, FULL_FLOAT32 = "arithmetic", "float32"


def probability_column(class_name: str) -> str:
    """The column that holds the probability of a class: `p:cats`."""
    return f"{PREFIX}{class_name}"


def class_names(table: pd.DataFrame) -> tuple[str, ...]:
    """The classes that the table has a probability for, in its order."""
    return tuple(name.removeprefix(PREFIX) for name in table.columns if name.startswith(PREFIX))


def make(images: pd.DataFrame, probabilities: NDArray[np.float64], names: Sequence[str]) -> pd.DataFrame:
    """Joins rows of a manifest and probabilities of shape (N, K) to a predictions table."""
    # Arrays, without the manifest's index: pandas would align by it and fill the rest with nothing.
    facts = {
        "path": images["path"].array,
        "sha256": images["sha256"].array,
        "truth": images["class_name"].array,
    }
    # All at once: pandas warns of columns that are added one by one, and gets slow from a hundred on.
    columns = {probability_column(name): probabilities[:, column] for column, name in enumerate(names)}
    table = pd.DataFrame(facts | columns)
    # Parquet keeps `attrs` beside the rows.
    table.attrs[ARITHMETIC] = FULL_FLOAT32  # `Predictor` computes in nothing else
    return table


def probabilities(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """The probabilities of the named classes, shape (N, K).

    Raises:
        DataError: the table lacks one of the classes.
    """
    missing = [name for name in names if probability_column(name) not in table.columns]
    if missing:
        raise DataError(f"the predictions have no class {', '.join(missing)}: they are another model's")
    columns = [probability_column(name) for name in names]
    return cast("NDArray[np.float64]", table[columns].to_numpy(dtype=np.float64))


def labels_of(probabilities: NDArray[np.float64], names: Sequence[str]) -> list[str | None]:
    """The most probable class of each row (N, K), the first one on a tie; None in rows of NaN, without an answer."""
    # A row without an answer has no largest number either.
    best = np.nan_to_num(probabilities).argmax(axis=1)
    missing = np.isnan(probabilities[:, 0])
    return [None if gone else names[column] for gone, column in zip(missing, best, strict=True)]


def labels(table: pd.DataFrame) -> NDArray[np.object_]:
    """The most probable class of each row; the first one on a tie. Shape (N,)."""
    names = class_names(table)
    return np.array(labels_of(probabilities(table, names), names), dtype=object)


def read(path: Path) -> pd.DataFrame:
    """Reads a predictions table from Parquet."""
    return pd.read_parquet(path)


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes a predictions table as Parquet, whole or not at all."""
    with files.replacing(path) as beside:
        table.to_parquet(beside, index=False)
