"""The manifest: a table with one row per file found below the data folder, readable or not."""

import hashlib
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow

from vggflow import files
from vggflow.data import layout, schema
from vggflow.errors import DataError

__all__ = [
    "class_names",
    "content_digest",
    "counts",
    "digest",
    "labelled",
    "read",
    "training",
    "write",
]

# So many rows are digested at a time: as text a million take 130 MB.
PART_ROWS = 65_536
# What a training depends on, of each image.
OF_TRAINING = ["path", "split", "class_name", "bytes", "sha256"]


def write(manifest: pd.DataFrame, path: Path) -> None:
    """Writes the manifest as Parquet, whole or not at all.

    Equal tables give equal bytes with the same pandas and pyarrow, whose versions Parquet records.
    """
    with files.replacing(path) as beside:
        manifest.to_parquet(beside, index=False)


def read(path: Path) -> pd.DataFrame:
    """Reads a manifest.

    Raises:
        DataError: there is none, or the file is another table.
    """
    # Arrow's own allocator keeps the memory that a table took; what the system's frees, a training takes up again.
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        manifest = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"no manifest {path}: run `vggflow validate` first") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no manifest: {' '.join(str(error).split())}") from error
    for column in schema.ADDED:
        if column not in manifest.columns:
            manifest[column] = None
    missing = [column for column in schema.COLUMNS if column not in manifest.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: run `vggflow validate` again")
    return manifest.astype({column: schema.COLUMNS[column] for column in schema.ADDED})


def labelled(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split that can be learned from: readable, not excluded, and with a known class."""
    return manifest[_learnable(manifest) & (manifest["split"] == split)]


def training(manifest: pd.DataFrame) -> pd.DataFrame:
    """What a training depends on, in the shape of a manifest: the learnable images of train and valid.

    It stays the same, to the byte, when other images come or go, so nothing is trained again for them.
    """
    rows = manifest[_learnable(manifest) & manifest["split"].isin(["train", "valid"])]
    # Groups of near copies, for one, are numbered over all images, so they change with others.
    columns = {name: rows[name] if name in OF_TRAINING else None for name in schema.COLUMNS}
    return pd.DataFrame(columns, index=rows.index).astype(schema.COLUMNS).reset_index(drop=True)


def _learnable(manifest: pd.DataFrame) -> "pd.Series[bool]":
    return (
        manifest["error"].isna() & manifest["excluded"].isna() & (manifest["class_name"] != layout.UNLABELLED)
    )


def counts(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    """The images that can be used, per split and class."""
    usable = manifest[manifest["error"].isna() & manifest["excluded"].isna()]
    found: dict[str, dict[str, int]] = {}
    for place, count in usable.groupby(["split", "class_name"]).size().items():
        split, class_name = cast("tuple[str, str]", place)
        found.setdefault(split, {})[class_name] = int(count)
    return found


def class_names(manifest: pd.DataFrame) -> tuple[str, ...]:
    """The classes of the training split, sorted; the position is the index of the model's output."""
    return tuple(sorted(labelled(manifest, "train")["class_name"].unique()))


def digest(manifest: pd.DataFrame) -> str:
    """The SHA-256 over which bytes lie where and which are left out, in hexadecimal."""
    found = hashlib.sha256()
    for start in range(0, max(1, len(manifest)), PART_ROWS):
        rows = manifest[["path", "sha256", "excluded"]][start : start + PART_ROWS].fillna("")
        # pandas ends lines as the system does, unless it is told.
        found.update(rows.to_csv(index=False, header=not start, lineterminator="\n").encode())
    return found.hexdigest()


def content_digest(manifest: pd.DataFrame) -> str:
    """The SHA-256 over all that a table says, in hexadecimal, whatever wrote it and in which bytes."""
    found = hashlib.sha256()
    for name in manifest.columns:
        column = manifest[name]
        unknown = column.isna().to_numpy(bool)
        # Nulls are told apart from the 0 or the empty text that stands in for them.
        found.update(f"{name}\0{len(column)}\0".encode() + unknown.tobytes())
        if pd.api.types.is_numeric_dtype(column.dtype):
            kind = "<f8" if pd.api.types.is_float_dtype(column.dtype) else "<i8"
            # UInt64 holds hashes of 64 bits, so its bits are taken, not its values.
            numbers = column.astype("object").where(~unknown, 0).to_numpy()
            unsigned = pd.api.types.is_unsigned_integer_dtype(column.dtype)
            found.update(numbers.astype("<u8" if unsigned else kind).tobytes())
        else:
            for start in range(0, len(column), PART_ROWS):
                part = slice(start, start + PART_ROWS)
                texts = column[part].astype("object").where(~unknown[part], "").tolist()
                # No path holds the character 0, and it keeps `a`, `bc` from being `ab`, `c`.
                joined = "\0" * bool(start) + "\0".join(map(str, texts))
                found.update(joined.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def evaluation_split(manifest: pd.DataFrame) -> str:
    """Where a model is measured: `test`, or `valid` where no test image has a label."""
    return "test" if len(labelled(manifest, "test")) else "valid"


def refuse_other(digest: Path, table: pd.DataFrame, *, known: bool) -> None:
    """DVC knows of a table's digest only, so the table itself is held to it.

    Args:
        digest: The file with the digest.
        table: What is about to be used.
        known: Whether the stage depends on the digest; a dvc.yaml of before does not, then DVC has digested the table.

    Raises:
        DataError: it is another table.
    """
    if known and (not digest.exists() or files.read_json(digest)["sha256"] != content_digest(table)):
        raise DataError(
            f"{digest.parent.name}/{digest.name} does not belong to {digest.with_suffix('.parquet').name}: "
            "run `vggflow validate` first"
        )
