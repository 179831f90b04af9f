"""Images as batches."""

from pathlib import Path

import numpy as np
import pytest
from tiny_training import draw

from vggflow.data import manifest as manifests
from vggflow.data.images import load
from vggflow.errors import DataError
from vggflow.features import batches
from vggflow.features.batches import Batches, Decoding, Shape
from vggflow.gate.scan import scan

SHAPE = Shape(24, "crop")


@pytest.fixture
def folder(tmp_path):
    draw(tmp_path, "train", {"a": 5, "b": 4}, seed=0)
    draw(tmp_path, "valid", {"a": 2, "b": 2}, seed=1)
    return tmp_path


def examples(folder, split="train"):
    manifest = scan(folder)
    return batches.examples(manifest, split, manifests.class_names(manifest), folder)


def test_labels_are_positions_in_the_sorted_classes(folder):
    found = examples(folder)
    classes = [Path(found.places[index].file).parent.name for index in range(len(found))]
    assert classes == ["ab"[label] for label in found.labels]
    assert len(found) == 9


def test_pixels_are_those_of_the_one_decoder_in_the_order_asked_for(folder):
    images = examples(folder)
    rows = Decoding(images, SHAPE).gather(np.array([4, 0, 8]))
    for row, place in zip(rows, [4, 0, 8], strict=True):
        np.testing.assert_array_equal(row, load(images.places[place], 24, "crop"))


def test_mirror_images_come_after_the_images_with_the_same_classes(folder):
    manifest = scan(folder)
    found = batches.examples(manifest, "train", ("a", "b"), folder, mirrored=True)
    assert len(found) == 18
    assert list(found.labels[:9]) == list(found.labels[9:])
    assert len(set(found.hashes)) == 18
    rows = Decoding(found, SHAPE).gather(np.array([2, 11]))
    np.testing.assert_array_equal(rows[1], load(found.places[2], 24, "crop")[:, ::-1])
    np.testing.assert_array_equal(rows[0], rows[1][:, ::-1])


@pytest.mark.parametrize("damage", ["same length", "longer", "gone"])
def test_a_file_that_changed_since_validate_is_refused_by_name(folder, damage):
    images_before = examples(folder)
    manifest = scan(folder)
    path = Path(images_before.places[2].file)
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?" if damage == "same length" else content + b"?")
    with pytest.raises(DataError, match=rf"{path.name} changed since validate"):
        found = batches.examples(manifest, "train", ("a", "b"), folder)
        Decoding(found, SHAPE).gather(np.arange(len(found)))


def test_no_labelled_images_is_said_with_the_folder(folder):
    with pytest.raises(DataError, match="no labelled images in test"):
        examples(folder, "test")


def test_a_class_that_train_lacks_is_named(folder):
    draw(folder, "valid", {"zebra": 2}, seed=3)
    with pytest.raises(DataError, match="valid has zebra, which train lacks"):
        examples(folder, "valid")


def test_the_order_follows_from_seed_and_epoch_alone():
    orders = {(seed, epoch): tuple(batches.order(seed, epoch, 50)) for seed in (1, 2) for epoch in (1, 2)}
    assert len(set(orders.values())) == 4
    assert all(sorted(found) == list(range(50)) for found in orders.values())
    assert tuple(batches.order(1, 2, 50)) == orders[1, 2]


def test_batches_hold_all_rows_once_with_their_targets_and_weights(folder):
    images = examples(folder)
    indices = batches.order(0, 1, 9)
    targets = images.labels.astype(np.float32)
    weights = np.arange(9, dtype=np.float32)
    made = Batches(Decoding(images, SHAPE), 4, indices, lambda chosen: targets[chosen], weights)
    assert len(made) == 3
    rows, given, weighed = zip(*(made[number] for number in range(3)), strict=True)
    assert [len(part) for part in rows] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(given), targets[indices])
    np.testing.assert_array_equal(np.concatenate(weighed), weights[indices])
    np.testing.assert_array_equal(rows[2][0], load(images.places[indices[8]], 24, "crop"))


def test_what_goes_wrong_while_feeding_is_remembered(folder):
    images = examples(folder)
    Path(images.places[0].file).unlink()
    made = Batches(Decoding(images, SHAPE), 4)
    with pytest.raises(DataError):
        made[0]
    assert isinstance(made.error, DataError)
