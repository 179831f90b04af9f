"""What lies in the data folder, unread."""

import hashlib

import pytest
from tiny import COLOURS, draw

from vggflow.data import listing, manifest
from vggflow.errors import DataError


def test_images_are_counted_by_their_names_and_the_first_of_a_split_can_be_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "READ", 2)
    for number in range(3):
        for split in ("train", "valid"):
            draw(tmp_path / split / "red" / f"{number}.png", COLOURS["red"], number)
    draw(tmp_path / "test" / "unknown" / "1.png", COLOURS["red"], 9)
    (tmp_path / "train" / "red" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "red" / ".hidden.png").write_text("hidden")
    (tmp_path / "train" / "stray.png").write_text("in no class")
    found = listing.listed(tmp_path)
    train = manifest.labelled(found, "train")
    assert train["path"].tolist() == [f"train/red/{number}.png" for number in range(3)]
    assert train["bytes"].tolist() == [(tmp_path / path).stat().st_size for path in train["path"]]
    whole = hashlib.sha256((tmp_path / "train/red/0.png").read_bytes()).hexdigest()
    assert train["sha256"].tolist()[0] == whole
    assert train["sha256"].tolist()[2] == "train/red/2.png"
    assert len(manifest.labelled(found, "valid")) == 3
    assert len(manifest.labelled(found, "test")) == 0


def test_data_that_nobody_could_learn_from_is_refused(tmp_path):
    draw(tmp_path / "train" / "red" / "1.png", COLOURS["red"], 1)
    with pytest.raises(DataError, match="no class folders in"):
        listing.listed(tmp_path)
