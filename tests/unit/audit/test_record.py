"""What is kept of an audit, and of which images it still speaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from vggflow.audit import record
from vggflow.audit.suspects import again, audit

NAMES = ("a/b", "ünï 猫")


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """40 images, 20 of each class but for one that is labelled otherwise than it looks; two are copies."""
    names = [NAMES[n // 20] for n in range(40)]
    names[3] = NAMES[1]
    hashes = [f"{n:064d}" for n in range(40)]
    hashes[8] = hashes[7]
    return pd.DataFrame(
        {
            "path": [f"train/{n % 3}/{n}.png" for n in range(40)],
            "split": "train",
            "class_name": names,
            "sha256": hashes,
            "near_group": pd.array([None] * 40, dtype="Int64"),
        }
    )


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    middles = np.repeat(np.eye(2, 16) * 6, 20, axis=0)
    found = (middles + np.random.default_rng(0).normal(0, 0.3, (40, 16))).astype(np.float32)
    found[8] = found[7]
    found[30] = -9.0  # like no other
    return found


def test_an_audit_that_was_kept_says_the_same_again(
    images: pd.DataFrame, features: NDArray[np.float32], tmp_path: Path
) -> None:
    found = audit(images, features, NAMES)
    path = record.place(tmp_path / "not there yet", "pets")
    record.write(record.table(found, images, "imagenet"), path)
    kept = record.read(path)
    assert kept is not None
    assert len(kept) == 39  # equal bytes with equal labels are one image
    assert kept["weights"].unique().tolist() == ["imagenet"]
    told = again(record.known(images, kept))
    assert (told.images, told.sure, told.unlike, told.copies) == (40, found.sure, found.unlike, found.copies)
    assert told.pairs == found.pairs
    assert (found.sure, found.unlike) == (1, 1)
    pd.testing.assert_frame_equal(told.suspects, found.suspects, check_dtype=False)
    assert told.outliers["path"].tolist() == found.outliers["path"].tolist()


def test_it_says_nothing_of_other_bytes_and_other_labels(
    images: pd.DataFrame, features: NDArray[np.float32]
) -> None:
    kept = record.table(audit(images, features, NAMES), images, "imagenet")
    changed = images.copy()
    changed.loc[3, "class_name"] = NAMES[0]
    changed.loc[5, "sha256"] = "f" * 64
    known = record.known(changed, kept)
    assert sorted({*changed["path"]} - {*known["path"]}) == ["train/0/3.png", "train/2/5.png"]
    assert len(again(known).suspects) == 0


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more", "other columns", "other types"])
def test_what_can_t_be_understood_is_as_if_it_were_not_there(
    content: bytes | str | None, tmp_path: Path
) -> None:
    path = tmp_path / "pets.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "other columns":
        pd.DataFrame({"sha256": ["0"]}).to_parquet(path)
    elif content == "other types":
        pd.DataFrame({name: ["x"] for name in record.COLUMNS}).to_parquet(path)
    assert record.read(path) is None
    assert record.read(tmp_path) is None
