"""A table of predictions as competitions take it: CSV with an `id` per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import DataError
from vggflow.prediction.batch import natural_key


def write(
    paths: Sequence[Path], probabilities: NDArray[np.float64], class_names: Sequence[str], destination: Path
) -> pd.DataFrame:
    """Writes a submission, whole or not at all, and returns its table.

    Args:
        paths: The images; the name without its ending is the `id`.
        probabilities: Shape (N, K).
        class_names: The K classes. Two give the columns `id,label` with the probability of the second one;
            more give `id` and a column per class.
        destination: The CSV file.

    Raises:
        DataError: two images have the same id.
    """
    table = submission(paths, probabilities, class_names)
    with files.replacing(destination) as beside:
        # Nine digits keep probabilities near 0 and 1 apart, which six decimals would not.
        table.to_csv(beside, index=False, float_format="%.9g", lineterminator="\n")
    return table


def submission(
    paths: Sequence[Path], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> pd.DataFrame:
    """The table that `write` writes, ids in numeric order."""
    ids = [path.stem for path in paths]
    _refuse_equal(ids)
    columns = {name: probabilities[:, column] for column, name in enumerate(class_names)}
    if len(class_names) == 2:
        columns = {"label": probabilities[:, 1]}
    order = sorted(range(len(ids)), key=lambda row: natural_key(ids[row]))
    return pd.DataFrame({"id": ids, **columns}).iloc[order].reset_index(drop=True)


def _refuse_equal(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"two images have the id {name}: a submission needs one image per file name")
        seen.add(name)
