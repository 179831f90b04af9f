from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vggflow.data import manifest as manifests
from vggflow.gate.near_copies import NearLimits
from vggflow.gate.scan import scan
from vggflow.promotion.seen import Near, find_seen

LIMITS = NearLimits(hash_distance=8, similarity=0.9, detail=1.0)


def picture(seed: int) -> Image.Image:
    """Something with as much to see as a photograph: blots of all sizes."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize((200, 160)),
            dtype=float,
        )
        for side in (3, 6, 12, 40)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory) -> Path:
    """Ten pictures to learn from; in test an equal, a re-encoded and a smaller one, and two of its own."""
    folder = tmp_path_factory.mktemp("seen") / "data"
    for split, numbers in {"train": range(8), "valid": (8, 9)}.items():
        for number in numbers:
            save(picture(number), folder / split / ("cats", "dogs")[number % 2] / f"{number}.jpg")
    for name in ("cats", "dogs"):
        (folder / "test" / name).mkdir(parents=True, exist_ok=True)
    test = folder / "test" / "cats"
    (test / "same.jpg").write_bytes((folder / "train" / "cats" / "0.jpg").read_bytes())
    save(picture(1), test / "encoded.jpg", quality=50)
    save(picture(8).resize((140, 112)), test / "smaller_of_valid.jpg")
    save(picture(20), test / "own.jpg")
    save(picture(21), folder / "test" / "dogs" / "own.jpg")
    return folder


def save(image: Image.Image, path: Path, quality: int = 92) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=quality)


@pytest.fixture(scope="module")
def manifest(data_folder):
    return scan(data_folder)


def test_equal_bytes_and_near_copies_of_train_and_valid_are_found(manifest, data_folder):
    images = manifests.labelled(manifest, "test")
    seen = find_seen(images, [manifest], Near(manifest, data_folder, LIMITS))
    assert seen.exactly == ("test/cats/same.jpg",)
    assert seen.nearly == ("test/cats/encoded.jpg", "test/cats/smaller_of_valid.jpg")
    assert seen.paths == (*seen.exactly, *seen.nearly)


def test_every_one_of_several_copies_is_found(manifest, data_folder):
    images = manifests.labelled(manifest, "test")
    copies = pd.concat(
        [images, images.assign(path="test/cats/again_" + images["path"].str.rpartition("/")[2])]
    )
    copies["sha256"] = [f"{number:064}" for number in range(len(copies))]
    seen = find_seen(copies, [manifest], Near(manifest[:0], data_folder, LIMITS))
    assert {Path(path).stem for path in seen.nearly} == {
        "same", "encoded", "smaller_of_valid", "again_same", "again_encoded", "again_smaller_of_valid",
    }  # fmt: skip


def test_a_crop_on_either_side_is_found(manifest, data_folder, tmp_path):
    whole = picture(2)
    cropped = whole.crop((5, 4, 195, 156))
    for part, learned, tested in (("a", whole, cropped), ("b", cropped, whole)):
        folder = tmp_path / part
        save(learned, folder / "train" / "cats" / "1.jpg")
        save(tested, folder / "test" / "cats" / "1.jpg")
        for number, split in enumerate(("train", "valid", "test"), start=30):
            save(picture(number), folder / split / "dogs" / "1.jpg")
        save(picture(40), folder / "valid" / "cats" / "1.jpg")
        here = scan(folder)
        seen = find_seen(manifests.labelled(here, "test"), [here], Near(here, folder, LIMITS))
        assert seen.nearly == ("test/cats/1.jpg",), part


def test_without_a_way_to_look_only_equal_bytes_are_found(manifest):
    seen = find_seen(manifests.labelled(manifest, "test"), [manifest])
    assert seen.paths == ("test/cats/same.jpg",)


def test_a_training_image_that_is_gone_is_told_by_its_hash(manifest, data_folder):
    images = manifests.labelled(manifest, "test")
    now = manifest[manifest["split"] == "test"]
    seen = find_seen(images, [manifest], Near(now, data_folder, LIMITS))
    assert seen.nearly == ("test/cats/encoded.jpg", "test/cats/smaller_of_valid.jpg")


def test_pixels_decide_where_both_images_are_there(manifest, data_folder):
    images = manifests.labelled(manifest, "test")
    strict = NearLimits(LIMITS.hash_distance, similarity=1.01, detail=LIMITS.detail)
    assert find_seen(images, [manifest], Near(manifest, data_folder, strict)).nearly == ()


def test_images_with_little_to_see_are_compared_by_their_bytes_only(manifest, data_folder):
    images = manifests.labelled(manifest, "test")
    plain = NearLimits(LIMITS.hash_distance, LIMITS.similarity, detail=1e9)
    assert find_seen(images, [manifest], Near(manifest, data_folder, plain)).paths == ("test/cats/same.jpg",)


def test_what_was_excluded_or_unreadable_was_not_learned_from(manifest):
    images = manifests.labelled(manifest, "test")
    left_out = manifest.assign(excluded="exact_duplicates")
    assert find_seen(images, [left_out]).paths == ()


def test_either_models_training_counts(manifest):
    images = manifests.labelled(manifest, "test")
    other = manifest[manifest["path"] != "train/cats/0.jpg"]
    assert find_seen(images, [other]).paths == ()
    assert find_seen(images, [other, manifest]).paths == ("test/cats/same.jpg",)


def test_measured_on_valid_only_train_counts_as_seen(manifest, data_folder):
    images = manifests.labelled(manifest, "valid")
    seen = find_seen(images, [manifest], Near(manifest, data_folder, LIMITS))
    assert seen.paths == ()


def test_nothing_scored_or_no_manifest_means_nothing_seen(manifest):
    images = manifests.labelled(manifest, "test")
    assert find_seen(images, []).paths == () and find_seen(images.iloc[:0], [manifest]).paths == ()
