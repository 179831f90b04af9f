"""Copies are found whatever was done to them, and nothing else is called one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_pictures import encode, grow, jpeg, picture
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from vggflow.data.duplicates import NearLimits, candidates, mark_near_copies
from vggflow.data.fingerprint import fingerprint
from vggflow.data.images import open_image
from vggflow.data.likeness import similarity
from vggflow.data.scanning import scan
from vggflow.errors import DataError

LIMITS = NearLimits(8, 0.9, 1.0)


def cropped(image: Image.Image, x: float, y: float) -> Image.Image:
    width, height = round(image.width * 0.95), round(image.height * 0.95)
    left, upper = round((image.width - width) * x), round((image.height - height) * y)
    return image.crop((left, upper, left + width, upper + height))


CHANGES = {
    "quality 40": lambda image: open_image(encode(image, "JPEG", quality=40)),
    "70 % size": lambda image: image.resize((112, 84), Image.Resampling.LANCZOS),
    "twice the size": lambda image: image.resize((320, 240), Image.Resampling.BICUBIC),
    "brightness +15 %": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "brightness -15 %": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "crop of 5 % in the middle": lambda image: cropped(image, 0.5, 0.5),
    "crop of 5 % in a corner": lambda image: cropped(image, 0, 1),
    "crop of 5 % at one side": lambda image: cropped(image, 0.3, 1),
}


def groups(data: Path, cache: Path | None = None) -> list[set[str]]:
    manifest = mark_near_copies(scan(data), data, LIMITS, cache=cache).manifest
    marked = manifest[manifest["near_group"].notna()]
    return [set(paths) for _, paths in marked.groupby("near_group")["path"]]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_near_copies(tmp_path, change):
    data = grow(tmp_path / "data")
    for seed in range(3):
        copy = CHANGES[change](picture(100 + seed))
        (data / "train" / "cats" / f"original{seed}.jpg").write_bytes(jpeg(100 + seed))
        (data / "test" / "cats" / f"copy{seed}.jpg").write_bytes(encode(copy, "JPEG", quality=90))

    assert groups(data) == [{f"test/cats/copy{n}.jpg", f"train/cats/original{n}.jpg"} for n in range(3)]


def test_different_pictures_are_no_copies(tmp_path):
    data = grow(tmp_path / "data", per_class=20)

    assert groups(data) == []


def test_copies_of_copies_are_one_group(data):
    image = picture(100)
    for number, (x, y) in enumerate([(0.5, 0.5), (0, 0), (1, 1), (0, 1), (1, 0)]):
        folder = ("train", "valid", "test")[number % 3]
        (data / folder / "cats" / f"copy{number}.jpg").write_bytes(encode(cropped(image, x, y), "JPEG"))

    assert [len(group) for group in groups(data)] == [5]


def test_exact_copies_alone_are_no_near_group(data):
    (data / "test" / "cats" / "copy.jpg").write_bytes((data / "train" / "cats" / "0.jpg").read_bytes())

    assert groups(data) == []


def test_exact_copies_of_a_near_copy_belong_to_its_group(data):
    original = (data / "train" / "cats" / "0.jpg").read_bytes()
    (data / "test" / "cats" / "same.jpg").write_bytes(original)
    (data / "valid" / "cats" / "near.jpg").write_bytes(encode(open_image(original), "JPEG", quality=60))

    assert groups(data) == [{"test/cats/same.jpg", "train/cats/0.jpg", "valid/cats/near.jpg"}]


@pytest.mark.parametrize("enlarge", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
def test_digits_are_too_low_in_detail_to_be_compared_by_their_hashes(enlarge):
    details, hashes = [], []
    for digit in load_digits().images[::4]:
        grey = Image.fromarray((digit * 255 / 16).astype(np.uint8))
        seen = fingerprint(grey.resize((32, 32), enlarge).convert("RGB"))
        details.append(seen.detail)
        hashes.append(seen.hashes[0])
    all_pairs = np.bitwise_count(np.array(hashes, np.uint64)[:, None] ^ np.array(hashes, np.uint64))

    assert max(details) < 1
    assert (all_pairs <= LIMITS.hash_distance).sum() - len(hashes) > 100, "hashes collide, so detail matters"


def test_pictures_with_enough_to_see_have_detail():
    assert min(fingerprint(picture(seed)).detail for seed in range(20)) > 1


def test_a_picture_of_one_colour_has_no_contrast_no_sharpness_and_no_detail():
    seen = fingerprint(Image.new("RGB", (50, 40), (10, 10, 10)))

    assert (seen.brightness, seen.contrast, seen.sharpness, seen.detail) == (10, 0, 0, 0)


def test_blur_lowers_sharpness_and_light_raises_brightness():
    image = picture(1)
    soft = image.resize((20, 15)).resize(image.size, Image.Resampling.BICUBIC)

    assert fingerprint(soft).sharpness < fingerprint(image).sharpness / 2
    assert fingerprint(ImageEnhance.Brightness(image).enhance(1.2)).brightness > fingerprint(image).brightness


def test_similarity_is_one_for_the_same_picture_and_low_for_others(tmp_path):
    for seed in (1, 2):
        picture(seed).save(tmp_path / f"{seed}.png")
    one, other = str(tmp_path / "1.png"), str(tmp_path / "2.png")

    assert similarity([one, one]) == pytest.approx(1)
    assert similarity([one, other]) < 0.7
    assert similarity([one, other]) == pytest.approx(similarity([other, one]))


def test_the_same_shapes_in_other_colours_are_not_the_same_picture(tmp_path):
    red, green, blue = picture(1).split()
    picture(1).save(tmp_path / "1.png")
    Image.merge("RGB", (blue, red, green)).save(tmp_path / "2.png")

    assert similarity([str(tmp_path / "1.png"), str(tmp_path / "2.png")]) < 0.9


def test_a_file_that_is_gone_has_no_similarity(tmp_path):
    picture(1).save(tmp_path / "1.png")

    assert similarity([str(tmp_path / "1.png"), str(tmp_path / "2.png")]) is None


def test_a_picture_that_changed_since_the_scan_is_told(data):
    original = data / "train" / "cats" / "0.jpg"
    copy = data / "valid" / "cats" / "near.jpg"
    copy.write_bytes(encode(open_image(original), "JPEG", quality=60))
    manifest = scan(data)
    copy.write_bytes(b"")

    with pytest.raises(DataError, match=r"near\.jpg changed while it was looked at: validate again"):
        mark_near_copies(manifest, data, LIMITS)


def test_pairs_that_were_compared_are_not_read_again(data, tmp_path):
    original = data / "train" / "cats" / "0.jpg"
    copy = data / "valid" / "cats" / "near.jpg"
    copy.write_bytes(encode(open_image(original), "JPEG", quality=60))
    manifest = scan(data)
    first = mark_near_copies(manifest, data, LIMITS, cache=tmp_path).manifest
    copy.write_bytes(b"reading this would fail")

    assert mark_near_copies(manifest, data, LIMITS, cache=tmp_path).manifest.equals(first)
    assert first["near_group"].notna().sum() == 2


def test_of_many_copies_each_is_compared_with_few(data):
    image = picture(100)
    for number in range(40):
        (data / "train" / "cats" / f"copy{number}.jpg").write_bytes(
            encode(image, "JPEG", quality=50 + number)
        )
    manifest = scan(data)
    asked: list[int] = []
    marked, not_compared = mark_near_copies(manifest, data, LIMITS, lambda done, _: asked.append(done))

    assert len(candidates(manifest, 8)) > 100
    assert asked[-1] < 80
    assert not_compared == 0
    assert (marked["near_group"] == 0).sum() == 40


def test_look_alikes_that_are_too_many_to_compare_are_counted(tmp_path):
    data = grow(tmp_path / "data", per_class=6)
    manifest = scan(data)
    # Different pictures whose hashes differ in two bits: each looks like all others.
    manifest["perceptual_hash"] = pd.array(np.uint64(1) << np.arange(36, dtype=np.uint64), dtype="UInt64")
    marked, not_compared = mark_near_copies(manifest, data, LIMITS)

    assert marked["near_group"].isna().all()
    assert not_compared > 0
