"""The manifest: a table with one row per file found below the data folder, readable or not."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from vggflow import files
from vggflow.data import layout
from vggflow.data.inspection import inspect
from vggflow.errors import DataError

COLUMNS = {
    "path": "str",
    "split": "str",
    "class_name": "str",
    "kind": "str",
    "bytes": "int64",
    "width": "Int64",
    "height": "Int64",
    "mode": "str",
    "format": "str",
    "orientation": "Int64",
    "frames": "Int64",
    "brightness": "Float64",
    "contrast": "Float64",
    "sharpness": "Float64",
    "detail": "Float64",
    "perceptual_hash": "UInt64",
    "sha256": "str",
    "error": "str",
    "excluded": "str",
}

Progress = Callable[[int, int], None]


def scan(data_folder: Path, progress: Progress | None = None, cache: Path | None = None) -> pd.DataFrame:
    """Looks at every file below the data folder (not `sample/`) and reads each image once.

    Args:
        progress: called with the files done and the files in total.
        cache: a folder in which the scan remembers what it saw, so the next one reads only what has changed.

    Raises:
        DataError: there is no data folder, or no file in it.
    """
    del cache
    layout.class_folders(data_folder)
    paths = sorted(path for path, _ in layout.files(data_folder))
    if not paths:
        raise DataError(f"no images in {data_folder}: bring images in with `vggflow data import`")
    rows = []
    for done, path in enumerate(paths, start=1):
        rows.append(_place(path) | inspect(data_folder / path))
        if progress:
            progress(done, len(paths))
    return table(rows)


def table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Rows as a manifest: all columns with their types, sorted by path."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame.sort_values("path", ignore_index=True)


def write(manifest: pd.DataFrame, path: Path) -> None:
    """Writes the manifest as Parquet, whole or not at all; equal tables give equal bytes."""
    with files.replacing(path) as beside:
        manifest.to_parquet(beside, index=False)


def read(path: Path) -> pd.DataFrame:
    """Reads a manifest.

    Raises:
        DataError: there is none, or the file is another table.
    """
    try:
        manifest = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"no manifest {path}: run `vggflow validate` first") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no manifest: {' '.join(str(error).split())}") from error
    missing = [column for column in COLUMNS if column not in manifest.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: run `vggflow validate` again")
    return manifest


def labelled(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split that can be learned from: readable, not excluded, and with a known class."""
    usable = (
        manifest["error"].isna() & manifest["excluded"].isna() & (manifest["class_name"] != layout.UNLABELLED)
    )
    return manifest[usable & (manifest["split"] == split)]


def class_names(manifest: pd.DataFrame) -> tuple[str, ...]:
    """The classes of the training split, sorted; the position is the index of the model's output."""
    return tuple(sorted(labelled(manifest, "train")["class_name"].unique()))


def digest(manifest: pd.DataFrame) -> str:
    """The SHA-256 over which bytes lie where and which are left out, in hexadecimal."""
    content = manifest[["path", "sha256", "excluded"]].fillna("").to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode()).hexdigest()


def _place(path: str) -> dict[str, object]:
    split, _, rest = path.partition("/")
    class_name, slash, _ = rest.partition("/")
    return {"path": path, "split": split, "class_name": class_name if slash else ""}
