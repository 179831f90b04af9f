"""Held-out images: valid and test as they were, and a model's answers on them, computed once."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vggflow import files
from vggflow.data import schema
from vggflow.drift import held_out
from vggflow.errors import DataError
from vggflow.prediction import observations
from vggflow.prediction.predictor import Answers


class Asked:
    """A model that counts what it is asked; its answers depend on the file's length."""

    def __init__(self):
        self.seen = []
        self.info = type("Info", (), {"class_names": ("cats", "dogs")})

    def answers(self, paths):
        self.seen += paths
        for path in paths:
            first = len(path.read()) % 7 / 7
            yield Answers(
                np.array([[first, 1 - first]]),
                ("",),
                (files.sha256(Path(path.file)),),
                np.ones((1, 4), np.float32),
            )


@pytest.fixture
def folder(tmp_path):
    rows = []
    for split, count in (("train", 5), ("valid", 40), ("test", 30)):
        for number in range(count):
            name = "cats" if number % 2 else "dogs"
            path = tmp_path / "data" / split / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{split} {number}".encode() * (number + 1))
            row = {"path": f"{split}/{name}/{number}.jpg", "split": split, "class_name": name, "bytes": 1}
            rows.append(row | {"sha256": files.sha256(path)})
    return tmp_path / "data", schema.table(rows)


def test_valid_and_test_are_held_out_and_train_is_not(folder):
    data, manifest = folder
    found = held_out.images(manifest, data)
    assert len(found.places) == 70
    assert {Path(place.file).parents[1].name for place in found.places} == {"valid", "test"}


def test_an_image_that_is_gone_or_another_by_now_is_left_out(folder):
    data, manifest = folder
    (data / "valid/cats/1.jpg").unlink()
    (data / "test/cats/1.jpg").write_bytes(b"another")
    found = held_out.images(manifest, data)
    assert len(found.places) == 68


def test_too_few_are_refused_with_what_to_do(folder):
    data, manifest = folder
    shutil.rmtree(data / "valid")
    with pytest.raises(DataError, match=r"holds 30 of the 70 images .* `vggflow data restore`"):
        held_out.images(manifest, data)


def test_answers_are_computed_once_for_a_model_and_its_images(folder, tmp_path):
    data, manifest = folder
    images, model = held_out.images(manifest, data), Asked()

    def look(sha256, images):
        return held_out.kept(model, sha256, images, lambda *_: None, tmp_path / "kept")

    first = look("a" * 64, images)
    assert len(model.seen) == 70
    again = look("a" * 64, images)
    assert len(model.seen) == 70
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.counts, again.counts)
    look("b" * 64, images)
    assert len(model.seen) == 140
    (data / "valid/cats/1.jpg").unlink()
    assert look("a" * 64, held_out.images(manifest, data)).images == 69


def test_a_damaged_file_of_kept_answers_is_computed_again(folder, tmp_path):
    data, manifest = folder
    images, model = held_out.images(manifest, data), Asked()
    for _ in range(2):
        held_out.kept(model, "a" * 64, images, lambda *_: None, tmp_path / "kept")
        (path,) = (tmp_path / "kept").iterdir()
        path.write_bytes(path.read_bytes()[:50])
    assert len(model.seen) == 140


def test_a_full_or_read_only_disk_costs_nothing_but_time(folder, tmp_path):
    data, manifest = folder
    (tmp_path / "kept").write_text("a file where the folder should be")
    found = held_out.kept(
        Asked(), "a" * 64, held_out.images(manifest, data), lambda *_: None, tmp_path / "kept"
    )
    assert isinstance(found, observations.Observations)
