"""The columns of the manifest, and rows put together to one."""

from collections.abc import Iterable, Mapping

import pandas as pd

CROP_HASHES = tuple(f"crop_hash_{number}" for number in range(1, 6))

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
    "extension_fits": "boolean",
    "orientation": "Int64",
    "used_bits": "Int64",
    "frames": "Int64",
    "brightness": "Float64",
    "contrast": "Float64",
    "sharpness": "Float64",
    "detail": "Float64",
    "perceptual_hash": "UInt64",
    **dict.fromkeys(CROP_HASHES, "UInt64"),
    "sha256": "str",
    "near_group": "Int64",
    "error": "str",
    "doubt": "str",
    "oddity": "str",
    "excluded": "str",
}
# Manifests of earlier versions lack these, and are still read.
ADDED = ("used_bits", "doubt", "oddity")


def table(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a manifest: all columns with their types, null where a row says nothing."""
    rows = list(rows)
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    # Objects first: pandas makes integers beside a null floats, and a hash of 64 bits loses its last ones.
    return pd.DataFrame(columns, dtype=object).astype(COLUMNS)
