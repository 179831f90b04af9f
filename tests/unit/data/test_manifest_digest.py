"""A table is digested by what it says, not by the bytes of its file."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vggflow.data import manifest as manifests
from vggflow.data import schema

ROWS = [
    {
        "path": "train/red/1.png",
        "split": "train",
        "class_name": "red",
        "kind": "image",
        "bytes": 10,
        "width": 3,
    }
    | {"brightness": 0.1 + 0.2, "perceptual_hash": 2**64 - 1, "sha256": "aa", "extension_fits": True},
    {"path": "train/red/ü.png", "split": "train", "class_name": "red", "kind": "image", "bytes": 0}
    | {"error": "truncated", "perceptual_hash": 0},
]


def test_another_writer_of_parquet_changes_bytes_and_no_digest(tmp_path: Path) -> None:
    table = schema.table(ROWS)
    manifests.write(table, tmp_path / "one.parquet")
    arrow = pq.read_table(tmp_path / "one.parquet").replace_schema_metadata(
        {
            b"pandas": pa.schema(pq.read_schema(tmp_path / "one.parquet"))
            .metadata[b"pandas"]
            .replace(b"3.", b"9.")
        }
    )
    pq.write_table(arrow, tmp_path / "other.parquet", compression="zstd", version="1.0")
    one, other = (tmp_path / name for name in ("one.parquet", "other.parquet"))
    assert one.read_bytes() != other.read_bytes()
    digests = {manifests.content_digest(pd.read_parquet(path)) for path in (one, other)}
    assert digests == {manifests.content_digest(table)}


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (0, "path", "train/red/2.png"),
        (0, "brightness", 0.3),
        (0, "perceptual_hash", 2**64 - 2),
        (0, "extension_fits", False),
        (1, "width", 0),
        (1, "error", ""),
    ],
)
def test_every_other_value_gives_another_digest(row: int, column: str, value: object) -> None:
    changed = [dict(each) for each in ROWS]
    changed[row][column] = value
    assert manifests.content_digest(schema.table(changed)) != manifests.content_digest(schema.table(ROWS))


def test_values_that_only_move_between_rows_give_another_digest() -> None:
    assert manifests.content_digest(schema.table(ROWS[::-1])) != manifests.content_digest(schema.table(ROWS))


def test_the_digest_is_the_same_wherever_it_is_computed() -> None:
    """It stands in everybody's `dvc.lock`, so neither pandas nor pyarrow may have a part in it."""
    known = "d0f8a63d2e32cd2b7574cbfe111e88dd4d56b76276fbf3aea1ee198f59675544"
    assert manifests.content_digest(schema.table(ROWS)) == known


@pytest.mark.parametrize("part", [1, 2, 3, 1000])
def test_digests_are_the_same_whatever_is_digested_at_a_time(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = schema.table([*ROWS, *(dict(row, path=f"{row['path']}{n}") for n in range(3) for row in ROWS)])
    whole = manifests.digest(table), manifests.content_digest(table)
    # Of the algorithm when it took all at once: digests of before stay those of now.
    assert whole == (
        "9f24b7a77690553c9b970826ff3753f28d3af4e292246e8c0cac3d03f9798c1b",
        "ea34c8693ece6e5b187c66b83fa414027a6d724e1146b4d0140bd46483671406",
    )
    monkeypatch.setattr(manifests, "PART_ROWS", part)
    assert (manifests.digest(table), manifests.content_digest(table)) == whole
    assert manifests.digest(table[:0]) != whole[0]
