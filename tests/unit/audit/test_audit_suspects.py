"""What an audit tells of images, and the table that a person writes decisions into."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from vggflow.audit import written_tables
from vggflow.audit.suspects import Audit, Pair, audit
from vggflow.audit.written_tables import DECISION, SUSPECTS
from vggflow.errors import UsageError

NAMES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Ten images of each class, in three directions."""
    random = np.random.default_rng(0)
    middles = np.repeat(np.eye(3, 16) * 6, 10, axis=0)
    return (middles + random.normal(0, 0.3, (30, 16))).astype(np.float32)


def images(**changed: str) -> pd.DataFrame:
    """A manifest's rows; a number such as `i3` is given another class."""
    names = [changed.get(f"i{n}", NAMES[n // 10]) for n in range(30)]
    return pd.DataFrame(
        {
            "path": [f"train/{name}/{n}.png" for n, name in enumerate(names)],
            "split": "train",
            "class_name": names,
            "sha256": [f"{n:064d}" for n in range(30)],
            "near_group": pd.array([None] * 30, dtype="Int64"),
        }
    )


def test_wrong_labels_come_first_with_what_they_look_like(features: NDArray[np.float32]) -> None:
    found = audit(images(i3="cow", i12="ant"), features, NAMES)
    assert set(found.suspects["path"]) == {"train/cow/3.png", "train/ant/12.png"}
    assert dict(zip(found.suspects["path"], found.suspects["suggested"], strict=True)) == {
        "train/cow/3.png": "ant",
        "train/ant/12.png": "bee",
    }
    assert found.suspects["suspicion"].is_monotonic_decreasing
    assert found.sure == 2
    assert set(found.pairs) == {Pair("cow", "ant", 1, 1), Pair("ant", "bee", 1, 1)}


def test_right_labels_are_not_doubted(features: NDArray[np.float32]) -> None:
    found = audit(images(), features, NAMES)
    assert (len(found.suspects), found.sure, found.pairs, found.copies) == (0, 0, (), {})
    assert len(found.outliers) == 30


def test_copies_are_counted_within_their_class(features: NDArray[np.float32]) -> None:
    table = images()
    table.loc[[0, 1, 2], "near_group"] = 5  # near copies
    table.loc[[10, 20], "near_group"] = 6  # copies of two classes teach each class
    table.loc[26, "sha256"] = table.loc[27, "sha256"]  # the same bytes
    assert audit(table, features, NAMES).copies == {"ant": 2, "cow": 1}


def test_it_is_plain_json(features: NDArray[np.float32]) -> None:
    found: Audit = audit(images(i3="cow"), features, NAMES)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["suspects"][0]["path"] == "train/cow/3.png"
    assert told["pairs"] == [{"labelled": "cow", "suggested": "ant", "images": 1, "sure": 1}]


def test_the_table_has_a_column_for_decisions_that_is_never_overwritten(
    features: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "suspects.csv"
    found = audit(images(i3="cow"), features, NAMES)
    written_tables.refuse_unwritable(path, DECISION)
    written_tables.write_suspects(found.suspects, path)
    table = pd.read_csv(path, encoding="utf-8-sig", dtype=str)
    assert list(table.columns) == list(SUSPECTS)
    assert table.loc[0, "path"] == "train/cow/3.png"
    assert table["decision"].isna().all()
    written_tables.refuse_unwritable(path, DECISION)  # nothing is lost
    path.write_text(path.read_text(encoding="utf-8").replace("\n,", "\nkeep,", 1), encoding="utf-8")
    with pytest.raises(UsageError, match="something in its column decision"):
        written_tables.refuse_unwritable(path, DECISION)


def test_a_class_that_looks_like_a_formula_is_none_in_the_table(tmp_path: Path) -> None:
    suspects = pd.DataFrame(
        {"path": ["train/=1/a.png"], "class_name": ["=1+1"], "suggested": ["b"], "sha256": ["0" * 64]}
    )
    written_tables.write_suspects(suspects.assign(probability=0.9, suspicion=0.9), tmp_path / "s.csv")
    assert "'=1+1" in (tmp_path / "s.csv").read_text("utf-8")


def test_a_table_that_can_t_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        written_tables.refuse_unwritable(tmp_path, DECISION)
    with pytest.raises(UsageError, match="can't write"):
        written_tables.refuse_unwritable(tmp_path / "nowhere" / "suspects.csv", DECISION)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError, match="something in its column decision"):
        written_tables.refuse_unwritable(tmp_path / "photo.jpg", DECISION)
