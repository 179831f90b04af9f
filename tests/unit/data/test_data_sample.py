"""A small copy of the data: of the same shape, and the same for the same data."""

from hashlib import sha256

import pytest
from made_pictures import grow, jpeg

from vggflow.data.sample import take_sample
from vggflow.errors import DataError
from vggflow.gate.scan import scan


def test_a_sample_has_so_many_images_of_each_class_and_split(tmp_path):
    data = grow(tmp_path / "data", per_class=4)
    counts = take_sample(data, 3)

    assert counts == {split: {"cats": 3, "dogs": 3} for split in ("train", "valid", "test")}
    assert len(scan(data / "sample")) == 18
    assert len(scan(data)) == 24


def test_the_same_data_give_the_same_sample_and_new_images_change_little(tmp_path):
    data = grow(tmp_path / "data", per_class=12)
    take_sample(data, 6)
    before = set(scan(data / "sample")["path"])
    take_sample(data, 6)
    assert set(scan(data / "sample")["path"]) == before

    for number in range(3):
        (data / "train" / "cats" / f"new{number}.jpg").write_bytes(jpeg(500 + number))
    take_sample(data, 6)
    assert len(before - set(scan(data / "sample")["path"])) <= 3


def test_a_class_with_fewer_images_gives_all_it_has(data):
    (data / "train" / "cats" / "notes.txt").write_text("no image")

    assert take_sample(data, 20)["train"] == {"cats": 2, "dogs": 2}


def test_unlabelled_images_are_sampled_too(data):
    (data / "test" / "unknown").mkdir()
    for number in range(3):
        (data / "test" / "unknown" / f"{number}.jpg").write_bytes(jpeg(90 + number))

    assert take_sample(data, 2)["test"]["unknown"] == 2


@pytest.mark.parametrize("count", [0, -1])
def test_a_sample_of_nothing_is_refused(data, count):
    with pytest.raises(DataError, match=f"{count} images per class make no sample"):
        take_sample(data, count)


def test_without_data_there_is_no_sample(tmp_path):
    with pytest.raises(DataError, match="no data folder"):
        take_sample(tmp_path / "data", 5)


def test_a_sample_is_taken_in_the_order_of_the_hashes_of_the_contents(tmp_path):
    data = grow(tmp_path / "data", per_class=12)
    take_sample(data, 5)
    for folder in ("train/cats", "test/dogs"):
        ordered = sorted((data / folder).iterdir(), key=lambda path: sha256(path.read_bytes()).digest())
        taken = {path.name for path in (data / "sample" / folder).iterdir()}
        assert taken == {path.name for path in ordered[:5]}


def test_an_earlier_sample_goes_before_the_next_is_taken(tmp_path):
    data = grow(tmp_path / "data", per_class=4)
    take_sample(data, 4)
    (data / "sample/train/cats/left-over.jpg").write_bytes(jpeg(7))
    take_sample(data, 1)
    assert len(scan(data / "sample")) == 6
