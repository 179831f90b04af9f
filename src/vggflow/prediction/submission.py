"""A table of predictions as competitions take it: CSV with an `id` per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import DataError
from vggflow.prediction.find_images import natural_key

ID, LABEL = "id", "label"


def write(
    paths: Sequence[Path],
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    destination: Path,
    id_column: str = ID,
) -> pd.DataFrame:
    """Writes a submission, whole or not at all, and returns its table.

    Args:
        paths: The images; the name without its ending is the `id`.
        probabilities: Shape (N, K).
        class_names: The K classes. Two give the columns `id,label` with the probability of the second one;
            more give `id` and a column per class.
        destination: The CSV file.
        id_column: What the column of image names is called.

    Raises:
        DataError: two images have the same id, or a class is called like the column of image names.
    """
    table = submission(paths, probabilities, class_names, id_column)
    with files.replacing(destination) as beside:
        # Nine digits keep probabilities near 0 and 1 apart, which six decimals would not.
        table.to_csv(beside, index=False, float_format="%.9g", lineterminator="\n")
    return table


def submission(
    paths: Sequence[Path], probabilities: NDArray[np.float64], class_names: Sequence[str], id_column: str = ID
) -> pd.DataFrame:
    """The table that `write` writes, ids in numeric order."""
    # So `1.jpg` and `1.png`, or files of one name in two folders, are one id.
    ids = [path.stem for path in paths]
    _refuse_equal(ids)
    columns = {name: probabilities[:, column] for column, name in enumerate(class_names)}
    if len(class_names) == 2:
        columns = {LABEL: probabilities[:, 1]}
    # Of two columns with one name the dictionary below would keep the second, without a word.
    if id_column in columns:
        taken = "the column of probabilities" if columns.keys() == {LABEL} else "a class"
        raise DataError(f"{taken} is called {id_column} too: name the column of images with --id-column")
    order = sorted(range(len(ids)), key=lambda row: natural_key(ids[row]))
    return pd.DataFrame({id_column: ids, **columns}).iloc[order].reset_index(drop=True)


def _refuse_equal(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"two images have the id {name}: a submission needs one image per file name")
        seen.add(name)
