"""Every kind of odd file has a named outcome: accepted as it is, left out with a warning, or refused."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from made_pictures import bomb, encode, grow, jpeg, picture
from PIL import Image

from vggflow.data import layout
from vggflow.data.manifest import labelled
from vggflow.errors import DataError
from vggflow.gate import tables as findings
from vggflow.gate.near_copies import NearLimits, mark_near_copies
from vggflow.gate.rules import rules
from vggflow.gate.scan import scan
from vggflow.settings import ValidateSettings


def look(data: Path) -> dict[str, dict[str, str]]:
    """Per expectation that is not met the paths and reasons."""
    manifest = mark_near_copies(scan(data), data, NearLimits(8, 0.9, 1.0)).manifest
    tables = {
        "images": findings.image_table(manifest),
        "classes": findings.class_table(manifest, layout.class_folders(data)),
    }
    outcome = {}
    for rule in rules(ValidateSettings()):
        table = tables[rule.table]
        broken = table[rule.broken_by(table)]
        if len(broken):
            outcome[rule.name] = {row["path"]: rule.reason_for(row) for row in broken.to_dict("records")}
    return outcome


def deep() -> Image.Image:
    """A picture in 16 bits that uses them."""
    return Image.fromarray(np.asarray(picture(90).convert("L")).astype(np.uint16) * 257)


def put(data: Path, name: str, content: bytes) -> str:
    path = data / "train" / "cats" / name
    path.write_bytes(content)
    return f"train/cats/{name}"


def row(data: Path, path: str) -> dict[str, object]:
    manifest = scan(data)
    return manifest[manifest["path"] == path].to_dict("records")[0]


def is_learned_from(data: Path, path: str) -> bool:
    return path in labelled(scan(data), "train")["path"].tolist()


def test_made_pictures_are_beyond_reproach(data):
    assert look(data) == {}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("truncated.jpg", jpeg(90)[:-500], "truncated"),
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"this is a text", "not an image of a known format"),
    ],
)
def test_what_claims_to_be_an_image_and_is_none_is_unreadable(data, name, content, reason):
    path = put(data, name, content)
    outcome = look(data)

    assert list(outcome) == ["unreadable"]
    assert reason in outcome["unreadable"][path]
    assert not is_learned_from(data, path)


def test_a_png_named_jpg_is_fine_and_noted(data):
    path = put(data, "really.jpg", encode(picture(90), "PNG"))

    assert look(data) == {"extension_mismatch": {path: "a PNG by its content"}}
    assert is_learned_from(data, path)


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("cmyk.jpg", encode(picture(90).convert("CMYK"), "JPEG"), "CMYK"),
        ("grey.jpg", encode(picture(90).convert("L"), "JPEG"), "L"),
        ("deep.png", encode(deep(), "PNG"), "I;16"),
        ("palette.png", encode(picture(90).quantize(200), "PNG", transparency=3), "P"),
        ("plain.bmp", encode(picture(90), "BMP"), "RGB"),
        ("plain.tiff", encode(picture(90), "TIFF"), "RGB"),
        ("plain.avif", encode(picture(90), "AVIF"), "RGB"),
        ("plain.webp", encode(picture(90), "WEBP"), "RGB"),
    ],
)
def test_unusual_images_are_accepted_with_their_mode_told(data, name, content, mode):
    path = put(data, name, content)
    facts = row(data, path)

    assert (facts["mode"], facts["width"], facts["height"]) == (mode, 160, 120)
    assert is_learned_from(data, path)
    assert "unreadable" not in look(data)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp"])
def test_an_animation_is_accepted_with_its_frames_told(data, name):
    frames = [picture(seed) for seed in (90, 91, 92)]
    kind = name.split(".")[1].upper()
    path = put(data, name, encode(frames[0], kind, save_all=True, append_images=frames[1:]))

    assert row(data, path)["frames"] == 3
    assert is_learned_from(data, path)


def test_an_exif_rotated_photo_has_the_size_that_it_shows(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = put(data, "rotated.jpg", encode(picture(90), "JPEG", exif=exif))
    facts = row(data, path)

    assert (facts["orientation"], facts["width"], facts["height"]) == (6, 120, 160)


def test_one_pixel_is_too_small(data):
    path = put(data, "dot.png", encode(Image.new("RGB", (1, 1)), "PNG"))

    assert look(data)["too_small"] == {path: "1×1 pixels, expected at least 8 on each side"}


def test_a_picture_of_one_colour_is_blank(data):
    path = put(data, "wall.png", encode(Image.new("RGB", (160, 120), "olive"), "PNG"))

    assert path in look(data)["blank"]


def test_a_dark_picture_is_told(data):
    path = put(data, "night.png", encode(picture(90).point(lambda value: value // 14), "PNG"))

    assert path in look(data)["dark"]


def test_a_blurred_picture_is_told(data):
    small = picture(90).resize((6, 5)).resize((160, 120), Image.Resampling.BICUBIC)
    path = put(data, "blurred.png", encode(small, "PNG"))

    assert path in look(data)["blurred"]


def test_a_long_thin_picture_and_a_huge_one_are_odd(data):
    thin = put(data, "thin.png", encode(picture(90, 160, 30), "PNG"))
    huge = put(data, "huge.png", encode(picture(91, 1700, 1500), "PNG"))
    outcome = look(data)

    assert list(outcome["odd_shapes"]) == [thin]
    assert list(outcome["odd_sizes"]) == [huge]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "notes.txt", "._1.jpg"])
def test_stray_files_are_left_out_with_a_warning(data, name):
    path = put(data, name, b"whatever")

    assert list(look(data)) == ["stray_files"]
    assert not is_learned_from(data, path)


@pytest.mark.parametrize("name", ["a.heic", "a.svg", "a.psd", "a.jp2"])
def test_pictures_of_a_foreign_kind_are_left_out_with_a_warning(data, name):
    path = put(data, name, b"whatever")

    assert look(data) == {"foreign_files": {path: f".{name.split('.')[1]} files can't be read"}}


def test_an_image_beside_the_class_folders_is_stray(data):
    (data / "train" / "lost.jpg").write_bytes(jpeg(90))
    (data / "more").mkdir()
    (data / "more" / "lost.jpg").write_bytes(jpeg(91))

    assert sorted(look(data)["stray_files"]) == ["more/lost.jpg", "train/lost.jpg"]
    assert not is_learned_from(data, "train/lost.jpg")


def test_unlabelled_images_in_train_are_stray(data):
    (data / "train" / "unknown").mkdir()
    (data / "train" / "unknown" / "1.jpg").write_bytes(jpeg(90))

    assert list(look(data)) == ["stray_files"]


@pytest.fixture
def open_to_all(request):
    """A data folder that another user can reach."""
    folder = Path(tempfile.mkdtemp())
    request.addfinalizer(lambda: shutil.rmtree(folder))
    data = grow(folder / "data")
    folder.chmod(0o755)
    return data


def as_nobody(data: Path) -> dict[str, list[list[str]]]:
    """What a user without rights sees: unreadable rows of the scan, and obstacles."""
    code = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from vggflow.gate.scan import scan\n"
        "from vggflow.data.layout import obstacles\n"
        "from PIL import Image\n"
        "Image.init()\n"  # while its plugins can still be read: the environment may lie in a private folder
        "if os.getuid() == 0:\n"
        "    os.setgid(65534); os.setuid(65534)\n"
        "manifest = scan(Path(sys.argv[1]))\n"
        "rows = manifest[manifest['error'].notna()][['path', 'kind', 'error']].values.tolist()\n"
        "print(json.dumps({'rows': rows, 'obstacles': obstacles(Path(sys.argv[1]))}))\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_a_file_without_permission_is_unreadable(open_to_all):
    path = put(open_to_all, "secret.jpg", jpeg(90))
    (open_to_all / path).chmod(0)

    assert as_nobody(open_to_all) == {
        "rows": [[path, "image", "Permission denied"]],
        "obstacles": [[path, "Permission denied"]],
    }


def test_a_link_into_a_private_folder_is_a_link(open_to_all):
    (open_to_all.parent / "private").mkdir(mode=0o700)
    (open_to_all.parent / "private" / "1.jpg").write_bytes(jpeg(90))
    (open_to_all / "train" / "cats" / "in.jpg").symlink_to("../../../private/1.jpg")
    reason = "a link to ../../../private/1.jpg: Permission denied"

    assert as_nobody(open_to_all) == {
        "rows": [["train/cats/in.jpg", "link", reason]],
        "obstacles": [["train/cats/in.jpg", reason]],
    }


def test_files_in_a_folder_that_can_be_listed_but_not_entered_are_unreadable(open_to_all):
    (open_to_all / "train" / "cats").chmod(0o744)
    seen = as_nobody(open_to_all)

    assert seen["rows"] == [[f"train/cats/{n}.jpg", "image", "Permission denied"] for n in (0, 1)]
    assert seen["obstacles"] == [[f"train/cats/{n}.jpg", "Permission denied"] for n in (0, 1)]


@pytest.mark.parametrize(
    ("closed", "mode", "told"),
    [("train/cats", 0o700, ["train/cats"]), ("train", 0o744, ["train/cats", "train/dogs"])],
)
def test_a_closed_class_folder_is_unreadable_and_not_a_stray(open_to_all, closed, mode, told):
    (open_to_all / closed).chmod(mode)
    reason = "the folder can't be opened: Permission denied"

    assert as_nobody(open_to_all)["rows"] == [[path, "image", reason] for path in told]


def test_a_broken_link_is_refused_before_dvc_stops_at_it(data):
    (data / "train" / "cats" / "gone.jpg").symlink_to("nowhere.jpg")

    assert look(data) == {"links": {"train/cats/gone.jpg": "a broken link to nowhere.jpg"}}
    with pytest.raises(DataError, match=r"gone\.jpg: a broken link to nowhere\.jpg; DVC can't keep it"):
        layout.refuse_obstacles(data)


def test_a_link_out_of_the_data_folder_is_refused(data, tmp_path):
    (tmp_path / "elsewhere.jpg").write_bytes(jpeg(90))
    (data / "train" / "cats" / "out.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    outcome = look(data)

    assert list(outcome) == ["links"]
    assert "a link out of the data folder to" in outcome["links"]["train/cats/out.jpg"]


def test_a_linked_folder_is_refused_and_not_followed(data, tmp_path):
    grow(tmp_path / "other")
    (data / "train" / "birds").symlink_to(tmp_path / "other" / "train" / "cats")

    assert [list(paths) for paths in look(data).values()] == [["train/birds"]]


def test_links_that_dvc_made_into_its_cache_are_files(data, tmp_path):
    cached = tmp_path / "cache" / "files" / "md5" / "ab" / "cdef"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(jpeg(90))
    (data / "train" / "cats" / "cached.jpg").symlink_to(cached)

    assert look(data) == {}
    assert is_learned_from(data, "train/cats/cached.jpg")


def test_a_folder_named_like_an_image_is_told_and_its_images_count(data):
    folder = data / "train" / "cats" / "x.jpg"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(jpeg(90))

    assert look(data) == {"stray_files": {"train/cats/x.jpg": "a folder named like an image"}}
    assert is_learned_from(data, "train/cats/x.jpg/1.jpg")


def test_a_socket_is_not_opened(data):
    place = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(data / "train" / "cats")
    place.bind("x.jpg")
    os.chdir(here)
    os.mkfifo(data / "train" / "cats" / "pipe.jpg")

    assert look(data)["stray_files"] == {
        "train/cats/pipe.jpg": "not a regular file",
        "train/cats/x.jpg": "not a regular file",
    }


@pytest.mark.parametrize(
    "name", ["a b.jpg", "a'b\"c.jpg", "a\nb.jpg", "größe-猫.jpg", "-rf.jpg", "{width}.jpg"]
)
def test_names_with_odd_characters_are_names(data, name):
    path = put(data, name, jpeg(90))

    assert look(data) == {}
    assert is_learned_from(data, path)


def test_a_name_that_is_not_unicode_is_refused(data):
    folder = os.fsencode(data / "train" / "cats")
    Path(os.fsdecode(folder + b"/caf\xe9.jpg")).write_bytes(jpeg(90))

    assert look(data) == {"unreadable": {r"train/cats/caf\xe9.jpg": "the name is not valid UTF-8"}}


def test_a_class_folder_whose_name_is_not_unicode_is_refused_and_can_be_written_down(data):
    folder = Path(os.fsdecode(os.fsencode(data / "train") + b"/caf\xe9"))
    folder.mkdir()
    (folder / "1.jpg").write_bytes(jpeg(90))
    outcome = look(data)

    assert outcome == {"unreadable": {r"train/caf\xe9": "the name is not valid UTF-8"}}
    json.dumps(outcome, ensure_ascii=False).encode()


def test_a_link_to_a_name_that_is_not_unicode_can_be_written_down(data):
    (data / "train" / "cats" / "link.jpg").symlink_to(os.fsdecode(b"caf\xe9.jpg"))

    assert look(data) == {"links": {"train/cats/link.jpg": r"a broken link to caf\xe9.jpg"}}


def test_a_link_to_itself_is_broken(data):
    (data / "train" / "cats" / "round.jpg").symlink_to("round.jpg")

    assert look(data) == {"links": {"train/cats/round.jpg": "a broken link to round.jpg"}}


def test_a_file_that_goes_while_the_folder_is_walked_is_no_entry(data):
    entries = layout.walk(data)
    first = next(entries).path
    for other in (path for path in (data / first).parent.iterdir() if path != data / first):
        other.unlink()
    left = [first, *(entry.path for entry in entries)]

    assert len(left) == 11


def test_a_bomb_is_refused_by_the_scan_without_the_memory(data):
    path = put(data, "bomb.png", bomb(20_000))
    code = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from vggflow.gate.scan import scan\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "manifest = scan(Path(sys.argv[1])).set_index('path')\n"
        "print(json.dumps([manifest.loc[sys.argv[2], 'error'], peak() - before]))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(data), path], capture_output=True, text=True, check=True
    )
    error, more = json.loads(said.stdout)

    assert error.startswith("more than the limit of")
    assert more < 60_000, "KiB; as pixels it is over a million"


def test_class_folders_that_differ_only_in_case_are_refused(data):
    (data / "train" / "Cats").mkdir()
    (data / "train" / "Cats" / "1.jpg").write_bytes(jpeg(90))
    outcome = look(data)

    assert outcome["case_collisions"] == {"train/Cats": "beside cats", "train/cats": "beside Cats"}
    assert list(outcome["missing_class"]) == ["valid/Cats", "test/Cats"]


@pytest.mark.parametrize(
    ("twin", "told"),
    [
        ("cats ", "differs only in blanks or dots around it"),
        ("cats.", "differs only in blanks or dots around it"),
        ("cats\u200d", "differs only in marks that nobody sees"),
    ],
)
def test_class_folders_that_look_alike_are_refused_with_what_makes_them_two(data, twin, told):
    (data / "train" / twin).mkdir()
    (data / "train" / twin / "1.jpg").write_bytes(jpeg(90))

    assert look(data)["case_collisions"] == {
        "train/cats": f"beside {twin!a}, which {told}",
        f"train/{twin}": f"beside 'cats', which {told}",
    }


def test_composed_and_decomposed_letters_make_two_folders_that_are_refused(data):
    for split in ("train", "valid", "test"):
        (data / split / "cats").rename(data / split / "caf\u00e9")
    assert "case_collisions" not in look(data)
    (data / "train" / "cafe\u0301").mkdir()
    (data / "train" / "cafe\u0301" / "1.jpg").write_bytes(jpeg(90))

    assert look(data)["case_collisions"] == {
        "train/caf\u00e9": "beside 'cafe\\u0301', which differs only in how its accents are written",
        "train/cafe\u0301": "beside 'caf\\xe9', which differs only in how its accents are written",
    }


def test_a_class_with_decomposed_letters_alone_goes_on_working_and_its_twin_in_valid_is_told(data):
    for split in ("train", "valid", "test"):
        (data / split / "cats").rename(data / split / "cafe\u0301")
    assert not look(data).keys() & {"case_collisions", "different_classes", "name_collisions"}
    (data / "valid" / "cafe\u0301").rename(data / "valid" / "caf\u00e9")

    assert look(data)["different_classes"] == {
        "valid/caf\u00e9": "train has no class caf\u00e9, only cafe\u0301, which differs only in how its accents are "
        "written"
    }


def test_files_that_are_one_file_on_other_machines_are_warned_of(data):
    (data / "train" / "cats" / "IMG_1.JPG").write_bytes(jpeg(90))
    (data / "train" / "cats" / "img_1.jpg").write_bytes(jpeg(91))
    (data / "train" / "dogs" / "img_1.jpg").write_bytes(jpeg(92))

    assert look(data)["name_collisions"] == {
        "train/cats/IMG_1.JPG": "one file with 'train/cats/img_1.jpg' on Windows and macOS",
        "train/cats/img_1.jpg": "one file with 'train/cats/IMG_1.JPG' on Windows and macOS",
    }


def test_a_class_that_differs_in_case_between_splits_is_told_as_that(data):
    (data / "valid" / "cats").rename(data / "valid" / "Cats")

    assert look(data)["different_classes"] == {
        "valid/Cats": "train has no class Cats, only cats, which differs in case"
    }


def test_an_empty_class_folder_is_a_missing_class(data):
    for file in (data / "valid" / "dogs").iterdir():
        file.unlink()

    assert look(data) == {"missing_class": {"valid/dogs": "no readable image in it"}}


def test_a_class_without_a_folder_in_one_split_is_a_missing_class(data):
    for file in (data / "test" / "dogs").iterdir():
        file.unlink()
    (data / "test" / "dogs").rmdir()

    assert look(data) == {"missing_class": {"test/dogs": "there is no such folder"}}


def test_no_images_at_all_are_a_data_error(data):
    for file in data.rglob("*.jpg"):
        file.unlink()

    with pytest.raises(DataError, match=r"no images in .*: bring images in with `vggflow data import`"):
        scan(data)


def test_one_image_is_too_few(tmp_path):
    data = tmp_path / "data"
    for split in ("train", "valid"):
        (data / split / "cats").mkdir(parents=True)
    (data / "train" / "cats" / "1.jpg").write_bytes(jpeg(90))
    outcome = look(data)

    assert outcome["too_few_images"] == {"train/cats": "1 readable images, expected at least 2"}
    assert list(outcome["too_few_classes"]) == ["train/cats"]
    assert list(outcome["missing_class"]) == ["valid/cats"]


def test_a_few_hundred_times_fewer_images_of_a_class_are_an_imbalance(tmp_path):
    data = grow(tmp_path / "data")
    for number in range(30):
        (data / "train" / "dogs" / f"more{number}.jpg").write_bytes(jpeg(1000 + number))

    assert look(data) == {
        "imbalance": {"train/cats": "2 images, expected at least 1/10 of the largest class"}
    }
