"""Copies are found whatever was done to them, and nothing else is called one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_pictures import encode, grow, jpeg, picture
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from vggflow.data.images import open_image
from vggflow.data.places import Place
from vggflow.errors import DataError
from vggflow.gate.candidate_pairs import candidates
from vggflow.gate.equal_hashes import compare_equal
from vggflow.gate.fingerprint import fingerprint
from vggflow.gate.near_copies import NearLimits, mark_near_copies
from vggflow.gate.pixel_similarity import similarity
from vggflow.gate.scan import scan

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
    one, other = Place(str(tmp_path / "1.png")), Place(str(tmp_path / "2.png"))

    assert similarity([one, one]) == pytest.approx(1)
    assert similarity([one, other]) < 0.7
    assert similarity([one, other]) == pytest.approx(similarity([other, one]))


def test_the_same_shapes_in_other_colours_are_not_the_same_picture(tmp_path):
    red, green, blue = picture(1).split()
    picture(1).save(tmp_path / "1.png")
    Image.merge("RGB", (blue, red, green)).save(tmp_path / "2.png")

    assert similarity([Place(str(tmp_path / "1.png")), Place(str(tmp_path / "2.png"))]) < 0.9


def test_a_file_that_is_gone_has_no_similarity(tmp_path):
    picture(1).save(tmp_path / "1.png")

    assert similarity([Place(str(tmp_path / "1.png")), Place(str(tmp_path / "2.png"))]) is None


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


def recoloured(image: Image.Image, seed: int) -> Image.Image:
    """The same picture to a grey eye, in other colours: what red gains, blue loses."""
    values = np.asarray(image, dtype=np.float64)
    red, green, blue = (values[..., channel] for channel in range(3))
    field = np.asarray(picture(seed, *image.size).convert("L"), dtype=np.float64) - 128
    share = 0.299 / 0.114
    room = np.minimum.reduce([red, 255 - red, blue / share, (255 - blue) / share])
    gain = np.clip(field * 4, -room, room)
    changed = np.stack([red + gain, green, blue - gain * share], axis=2)
    return Image.fromarray(changed.round().astype(np.uint8))


def put(data: Path, path: str, image: Image.Image, **options: object) -> None:
    (data / path).write_bytes(encode(image, "PNG", **options))


def test_a_near_copy_is_found_beside_a_third_picture_of_the_same_grey(tmp_path):
    data = grow(tmp_path / "data")
    original = picture(100)
    put(data, "test/cats/a.png", recoloured(original, 200))
    put(data, "train/cats/b.png", original, compress_level=1)
    put(data, "test/cats/c.png", original, compress_level=9)
    manifest = scan(data).set_index("path")
    hashes = manifest.loc[["test/cats/a.png", "train/cats/b.png", "test/cats/c.png"], "perceptual_hash"]

    assert hashes.nunique() == 1
    assert (
        similarity([Place(str(data / "test/cats/a.png")), Place(str(data / "train/cats/b.png"))])
        < LIMITS.similarity
    )
    assert groups(data) == [{"train/cats/b.png", "test/cats/c.png"}]


def with_hashes(manifest: pd.DataFrame, hashes: dict[str, int]) -> pd.DataFrame:
    """Other hashes for some pictures; their windows are like nothing."""
    changed = manifest.copy()
    for number, (path, value) in enumerate(hashes.items()):
        row = changed["path"] == path
        changed.loc[row, "perceptual_hash"] = value
        for window in range(1, 6):
            changed.loc[row, f"crop_hash_{window}"] = ((number * 5 + window) << 40) ^ (2**64 - 1)
    return changed


@pytest.mark.parametrize("distance", [0, 1, 5])
def test_a_near_copy_is_found_whatever_else_has_the_hash_of_either(tmp_path, distance):
    data = grow(tmp_path / "data")
    kinds = [recoloured(picture(100), 200 + number) for number in range(3)]
    for number, kind in enumerate(kinds):
        put(data, f"train/cats/a{number}.png", kind)
        put(data, f"test/cats/z{2 - number}.png", kind, compress_level=1)
    hashes = {f"train/cats/a{n}.png": 0 for n in range(3)} | {
        f"test/cats/z{n}.png": 2**distance - 1 for n in range(3)
    }
    marked, not_compared = mark_near_copies(with_hashes(scan(data), hashes), data, LIMITS)
    found = marked[marked["near_group"].notna()].groupby("near_group")["path"].agg(set).tolist()

    assert {frozenset(group) for group in found} == {
        frozenset({f"test/cats/z{2 - n}.png", f"train/cats/a{n}.png"}) for n in range(3)
    }
    assert not_compared == 0


def test_of_many_different_pictures_with_one_hash_the_pairs_that_were_not_compared_are_counted(tmp_path):
    data = grow(tmp_path / "data", per_class=7)
    manifest = scan(data)
    one_hash = with_hashes(manifest, dict.fromkeys(manifest["path"], 7))
    marked = mark_near_copies(one_hash, data, LIMITS)

    assert len(manifest) == 42
    # 16 pictures are compared with all others, 26 are left.
    assert marked.not_compared == 26 * 25 // 2
    assert marked.manifest["near_group"].isna().all()


def test_thousands_of_copies_with_one_hash_take_a_comparison_each():
    which = np.zeros(5000, np.int64)
    compared: list[int] = []

    class Alike:
        """Pictures of three kinds, in turns."""

        def of(self, pairs: np.ndarray) -> list[float]:
            compared.append(len(pairs))
            return [float(one % 3 == other % 3) for one, other in pairs]

    equal = compare_equal(which, Alike(), 0.9)

    assert compared == [4999, 3332, 1665]
    assert equal.leaders.tolist() == [0, 1, 2]
    assert len(equal.copies) == 4997


@pytest.mark.slow
def test_look_alikes_beyond_the_longest_list_are_counted(tmp_path):
    data = grow(tmp_path / "data", per_class=10)
    manifest = scan(data)
    each = dict(zip(manifest["path"], (1 << number for number in range(60)), strict=True))
    compared: list[int] = []
    marked = mark_near_copies(
        with_hashes(manifest, each), data, LIMITS, lambda done, _: compared.append(done)
    )

    assert marked.not_compared == 60 * 59 // 2 - compared[-1]
