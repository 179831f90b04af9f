"""The last audit of a model's images, kept for those who need not ask again: the data gate, an evaluation.

A row for each image that was looked at, known by its bytes and its label. So what it says holds wherever the image
lies, and it says nothing of one that came, was changed or got another label since.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vggflow import files

if TYPE_CHECKING:
    from vggflow.audit.suspects import Audit

FOLDER = "audits"
IMAGE = ["sha256", "class_name"]
# Of an image that nothing is said of they are null, but for `sure`.
OF_SUSPECTS = ["suggested", "probability", "suspicion", "sure"]
OF_OUTLIERS = ["distance", "unlike"]
COLUMNS = [*IMAGE, *OF_SUSPECTS, *OF_OUTLIERS, "weights"]


def place(state_folder: Path, model: str) -> Path:
    """Where the last audit of a model's images is: all clones of its workspace on a machine have one."""
    return state_folder / FOLDER / f"{model}.parquet"


def table(found: "Audit", images: pd.DataFrame, weights: str) -> pd.DataFrame:
    """What is kept of an audit.

    Args:
        found: What it said.
        images: The rows of the manifest that it looked at.
        weights: Which start weights saw them, in words.
    """
    suspects = found.suspects[[*IMAGE, *OF_SUSPECTS]].drop_duplicates(IMAGE)
    outliers = found.outliers[[*IMAGE, *OF_OUTLIERS]].drop_duplicates(IMAGE)
    rows = images[IMAGE].drop_duplicates().merge(suspects, how="left", on=IMAGE)
    rows = rows.merge(outliers, how="left", on=IMAGE).assign(weights=weights)
    doubted = rows[["sure", "unlike"]].astype("boolean").fillna(False).astype(bool)
    return rows.assign(sure=doubted["sure"], unlike=doubted["unlike"])[COLUMNS]


def write(kept: pd.DataFrame, path: Path) -> None:
    """Writes the record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as beside:
        kept.to_parquet(beside, index=False)


def read(path: Path) -> pd.DataFrame | None:
    """The record; None where there is none, or what is there can't be understood: it is made again at any time."""
    try:
        found = pd.read_parquet(path)[COLUMNS]
        return found.astype({"probability": float, "suspicion": float, "distance": float, "sure": bool})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def known(images: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The images that were looked at under the labels that they have now, with what was said of them."""
    return images.merge(kept.drop_duplicates(IMAGE), how="inner", on=IMAGE)
