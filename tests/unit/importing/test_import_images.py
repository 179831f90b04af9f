"""Imports of every layout: where images land, what is skipped, and that nothing is ever overwritten."""

import io
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from made_pictures import grow, jpeg
from rich.console import Console

from vggflow.errors import DataError
from vggflow.importing import sources
from vggflow.importing.import_images import ImportOptions, Limits, Shares, import_images
from vggflow.importing.splitting import choose_split

HALF = ImportOptions(Shares(valid=0.25, test=0.25))


def write(root: Path, *paths: str) -> Path:
    """Files of different bytes; an import does not decode them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(f"bytes of {path}".encode())
    return root


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def classes(root: Path) -> set[str]:
    return {path.split("/", 1)[1] for path in tree(root)}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data"


def test_a_tree_with_splits_is_copied_as_it_is(tmp_path, target):
    source = grow(tmp_path / "source")
    summary = import_images(source, target)

    assert tree(target) == tree(source)
    assert summary.images == {split: {"cats": 2, "dogs": 2} for split in ("train", "valid", "test")}
    assert (summary.copied, summary.already_there, summary.skipped) == (12, 0, ())
    assert summary.description == "splits as they are"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("Training", "train"),
        ("train_set", "train"),
        ("val", "valid"),
        ("VALIDATION", "valid"),
        ("testing", "test"),
    ],
)
def test_the_usual_names_of_splits_are_known(source, target, found, expected):
    write(source, f"{found}/cats/1.jpg", "train/cats/0.jpg", "valid/cats/0.jpg")
    import_images(source, target)

    assert f"{expected}/cats/1.jpg" in tree(target)


def test_a_tree_without_splits_is_divided_by_content(source, target):
    write(source, *(f"{name}/{number}.jpg" for name in ("cats", "dogs") for number in range(80)))
    summary = import_images(source, target, options=HALF)
    counts = {split: sum(per_class.values()) for split, per_class in summary.images.items()}

    assert classes(target) == tree(source)
    assert sum(counts.values()) == 160
    assert counts["valid"] == pytest.approx(40, abs=18)
    assert counts["test"] == pytest.approx(40, abs=18)
    assert summary.description == "no splits: divided by content"


def test_adding_images_never_moves_an_old_one(source, target, tmp_path):
    write(source, *(f"cats/{number}.jpg" for number in range(50)))
    import_images(source, target, options=HALF)
    before = tree(target)
    write(source, *(f"cats/more{number}.jpg" for number in range(50)))
    summary = import_images(source, target, options=HALF)

    assert before < tree(target)
    assert (summary.copied, summary.already_there) == (50, 50)


def test_the_same_bytes_go_to_the_same_split_whatever_they_are_called(source, target):
    for number in range(30):
        write(source, f"cats/{number}.jpg")
        shutil.copy(source / f"cats/{number}.jpg", source / f"cats/copy of {number}.jpg")
    import_images(source, target, options=HALF)
    split_of = {path.split("/")[2]: path.split("/")[0] for path in tree(target)}

    assert all(split_of[f"{number}.jpg"] == split_of[f"copy of {number}.jpg"] for number in range(30))


def test_groups_stay_together(source, target):
    write(source, *(f"cats/patient_{patient}_{shot}.jpg" for patient in range(20) for shot in range(5)))
    import_images(source, target, options=ImportOptions(Shares(0.25, 0.25, r"patient_(\d+)_")))
    splits: dict[str, set[str]] = {}
    for path in tree(target):
        splits.setdefault(path.split("_")[1], set()).add(path.split("/")[0])

    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "valid", "test"}


@pytest.mark.parametrize(("there", "expected"), [("train valid", "train"), ("valid test", "test")])
def test_a_group_that_lies_in_two_splits_goes_on_in_the_first_by_name(source, target, there, expected):
    for split in there.split():
        write(target, f"{split}/cats/patient_1_{split}.jpg", f"{split}/dogs/d {split}.jpg")
    write(source, *(f"cats/patient_1_{shot}.jpg" for shot in range(8)))
    import_images(source, target, options=ImportOptions(Shares(0.25, 0.25, r"patient_(\d+)_")))
    assert {path.split("/")[0] for path in tree(target) if re.search(r"_\d\.jpg", path)} == {expected}


def test_a_group_without_brackets_is_the_whole_match():
    shares = Shares(0.4, 0.4, r"day\d")
    splits = {choose_split(PurePosixPath(f"cats/day1 {n}.jpg"), bytes([n]), shares) for n in range(20)}

    assert len(splits) == 1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.6, 0.4, None), "leave nothing for train"),
        ((-0.1, 0.4, None), "both at least 0"),
        ((0.1, 0.1, "("), r"--group '\(' is no regular expression"),
    ],
)
def test_impossible_shares_and_groups_are_refused(shares, message):
    with pytest.raises(DataError, match=message):
        Shares(*shares)


def test_training_set_test_set_and_single_prediction(source, target):
    write(source, *(f"dataset/training_set/cats/cat.{number}.jpg" for number in range(40)))
    write(source, "dataset/test_set/cats/cat.4001.jpg", "dataset/single_prediction/cat_or_dog_1.jpg")
    summary = import_images(source, target, options=HALF)

    assert set(summary.images) == {"train", "valid", "test"}
    assert summary.images["test"] == {"cats": 1, "unknown": 1}
    assert "test/unknown/cat_or_dog_1.jpg" in tree(target)
    assert summary.description == "no valid split: taken from train by content"


@pytest.mark.parametrize("prefix", ["", "dogs-vs-cats/"])
@pytest.mark.parametrize("nested", [False, True])
def test_kaggles_flat_files(source, target, prefix, nested):
    inner = ("train/", "test/") if nested else ("", "")
    write(source, *(f"{prefix}train/{inner[0]}{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(40)))
    write(source, *(f"{prefix}test/{inner[1]}{n}.jpg" for n in range(1, 8)))
    summary = import_images(source, target, options=HALF)

    assert set(summary.images["train"]) == set(summary.images["valid"]) == {"cat", "dog"}
    assert summary.images["test"]["unknown"] == 7
    assert {"test/unknown/1.jpg", "test/unknown/7.jpg"} <= tree(target)
    assert summary.copied == 87


def pet_images(archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(30):
            zipped.writestr(f"PetImages/Cat/{number}.jpg", f"cat {number}")
            zipped.writestr(f"PetImages/Dog/{number}.jpg", f"dog {number}")
        zipped.writestr("PetImages/Cat/666.jpg", b"")
        zipped.writestr("PetImages/Cat/Thumbs.db", b"x")
        zipped.writestr("readme[1].txt", b"x")
    return archive


def test_the_pet_images_archive(tmp_path, target):
    summary = import_images(pet_images(tmp_path / "PetImages.zip"), target, options=HALF)

    assert classes(target) == {f"{kind}/{n}.jpg" for kind in ("Cat", "Dog") for n in range(30)} | {
        "Cat/666.jpg"
    }
    assert [skip.path for skip in summary.skipped] == ["PetImages/Cat/Thumbs.db", "readme[1].txt"]
    assert {skip.reason for skip in summary.skipped} == {"not an image by its extension"}


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives(source, target, tmp_path, kind):
    write(source, *(f"{split}/cats/1.jpg" for split in ("train", "valid", "test")))
    with tarfile.open(tmp_path / "images.tar", kind) as taped:
        taped.add(source, "photos")
    import_images(tmp_path / "images.tar", target)

    assert tree(target) == tree(source)


def test_an_archive_writes_nowhere_else(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        for name in (
            "../outside.jpg",
            "/outside.jpg",
            "cats/../../outside.jpg",
            "..\\outside.jpg",
            "C:/outside.jpg",
        ):
            zipped.writestr(name, b"x")
        link = zipfile.ZipInfo("cats/link.jpg")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
        for number in range(1, 9):
            zipped.writestr(f"cats/{number}.jpg", bytes([number]))
        zipped.writestr("__MACOSX/cats/._1.jpg", b"x")
    with tarfile.open(tmp_path / "evil.tar", "w") as taped:
        for name, kind in (
            ("cats/a.jpg", tarfile.SYMTYPE),
            ("cats/b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            taped.addfile(member)
        for number, name in enumerate(("../outside.jpg", *(f"cats/{number}.jpg" for number in range(1, 9)))):
            member = tarfile.TarInfo(name)
            member.size = 1
            taped.addfile(member, io.BytesIO(bytes([number])))
    zipped_summary = import_images(tmp_path / "evil.zip", target)
    taped_summary = import_images(tmp_path / "evil.tar", target)

    assert classes(target) == {f"cats/{number}.jpg" for number in range(1, 9)}
    assert not list(tmp_path.rglob("outside.jpg"))
    assert [skip.reason for skip in zipped_summary.skipped] == [
        *["a path that leads out of the archive"] * 5,
        "a link",
        "a hidden file",
    ]
    assert [skip.reason for skip in taped_summary.skipped] == [
        "a link",
        "a link",
        "not a regular file",
        "a path that leads out of the archive",
    ]


def test_an_archive_that_holds_too_many_files_is_refused(tmp_path, target):
    options = ImportOptions(limits=Limits(files=20))

    with pytest.raises(DataError, match="holds more than 20 files"):
        import_images(pet_images(tmp_path / "PetImages.zip"), target, options=options)
    assert tree(target) == set()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, target):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for number in range(4):
            zipped.writestr(f"cats/{number}.jpg", bytes(1_000_000))

    with pytest.raises(DataError, match=r"unpacks to more than 0\.00279 GiB"):
        import_images(
            tmp_path / "bomb.zip", target, options=ImportOptions(limits=Limits(total_bytes=3_000_000))
        )


def test_damaged_members_are_skipped_with_their_reason(tmp_path, target):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("cats/good.jpg", b"good")
        zipped.writestr("cats/bad.jpg", b"these bytes change")
    path.write_bytes(path.read_bytes().replace(b"these bytes change", b"these bytes CHANGE"))
    summary = import_images(path, target)

    assert classes(target) == {"cats/good.jpg"}
    assert [(skip.path, skip.reason[:22]) for skip in summary.skipped] == [
        ("cats/bad.jpg", "damaged in the archive")
    ]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.txt"])
def test_what_is_no_archive_is_a_data_error(tmp_path, target, name):
    (tmp_path / name).write_bytes(b"no archive at all")

    with pytest.raises(DataError, match="is no zip or tar that can be read"):
        import_images(tmp_path / name, target)


def packed(source: Path, archive: Path, kind: str) -> bytes:
    """A tar of thirty images that compress badly, so that damage lies between and within them."""
    for number in range(30):
        (source / "cats").mkdir(parents=True, exist_ok=True)
        (source / "cats" / f"{number}.jpg").write_bytes(random.Random(number).randbytes(900))
    with tarfile.open(archive, kind) as taped:
        taped.add(source, ".")
    return archive.read_bytes()


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_that_is_cut_off_anywhere_is_refused_whole(source, target, tmp_path, kind):
    path = tmp_path / "short.tar"
    whole = packed(source, path, kind)
    # Also where a member ends and the next would begin, which looks like the end of an archive.
    for length in (*range(200, len(whole) - 12_000, 4096 - 7), 512 * 11):
        path.write_bytes(whole[:length])
        with pytest.raises(
            DataError, match=r"is no zip or tar that can be read whole: .* nothing was imported"
        ):
            import_images(path, target)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_with_changed_bytes_is_refused_whole(source, target, tmp_path, kind):
    path = tmp_path / "damaged.tar"
    whole = packed(source, path, kind)
    for place in range(40, len(whole) - 40, 1009):
        path.write_bytes(
            whole[:place] + bytes(byte ^ 0x55 for byte in whole[place : place + 16]) + whole[place + 16 :]
        )
        # bzip2 hands out what damage made of a block before it compares the checksum: that may look like a bomb.
        with pytest.raises(DataError, match=r"can be read whole|has a (header|member)"):
            import_images(path, target)
    assert not target.exists()


def test_a_tar_with_a_damaged_header_is_refused_whole(source, target, tmp_path):
    path = tmp_path / "damaged.tar"
    whole = packed(source, path, "w")
    place = whole.index(b"./cats/15.jpg")
    path.write_bytes(whole[:place] + b"?" + whole[place + 1 :])

    with pytest.raises(DataError, match=r"at byte \d+: bad checksum; nothing was imported"):
        import_images(path, target)


def test_a_zip_member_whose_compressed_bytes_are_damaged_is_skipped(tmp_path, target):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("cats/good.jpg", b"good")
        zipped.writestr("cats/bad.jpg", bytes(range(256)) * 20)
        start = zipped.getinfo("cats/bad.jpg").header_offset + 30 + len("cats/bad.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xff" * 20 + content[start + 20 :])
    summary = import_images(path, target)

    assert classes(target) == {"cats/good.jpg"}
    assert [skip.path for skip in summary.skipped] == ["cats/bad.jpg"]


def test_names_that_no_disk_can_keep_are_skipped_with_their_reason(tmp_path, target):
    with tarfile.open(tmp_path / "odd.tar", "w") as taped:
        for name in (
            "cats/a.jpg", "cats/a.jpg/b.jpg", "cats/good.jpg", "cats/better.jpg", f"cats/{'x' * 252}.jpg",
            "cats/caf\udce9.jpg", ".",
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(name)
            taped.addfile(member, io.BytesIO(name.encode(errors="replace")))
    summary = import_images(tmp_path / "odd.tar", target)

    assert classes(target) == {"cats/a.jpg", "cats/good.jpg", "cats/better.jpg"}
    assert [skip.reason for skip in summary.skipped] == [
        "below a file, not a folder",
        "a name that no disk can keep",
        "the name is not valid UTF-8: `--encoding` says what it is",
        "without a name",
    ]
    json.dumps(summary.to_dict(), ensure_ascii=False).encode()


def test_a_dry_run_tells_the_same_and_writes_nothing(source, target):
    write(source, *(f"cats/{number}.jpg" for number in range(20)), "cats/notes.txt")
    dry = import_images(source, target, options=ImportOptions(HALF.shares, dry_run=True))
    assert not target.exists()
    wet = import_images(source, target, options=HALF)

    assert (dry.images, dry.copied, dry.skipped) == (wet.images, wet.copied, wet.skipped)


def flat(source: Path) -> None:
    write(source, *(f"train/{kind}.{number}.jpg" for kind in ("cat", "dog") for number in range(40)))
    write(source, *(f"test/{number}.jpg" for number in range(1, 8)))


def sets(source: Path) -> None:
    write(source, *(f"training_set/{kind}/{number}.jpg" for kind in ("cats", "dogs") for number in range(40)))
    write(source, "test_set/cats/1.jpg", "test_set/dogs/1.jpg", "single_prediction/1.jpg")


def folders(source: Path) -> None:
    write(source, *(f"{kind}/{number}.jpg" for kind in ("cats", "dogs") for number in range(40)))


def split(source: Path) -> None:
    write(source, *(f"{part}/cats/{n}.jpg" for part in ("train", "valid", "test") for n in range(20)))


SHAPES = pytest.mark.parametrize("make", [flat, sets, folders, split])


class Killed(BaseException):
    pass


def killed_after(count: int):
    def progress(done: int, total: int) -> None:
        if done == count:
            raise Killed

    return progress


@SHAPES
def test_an_import_of_any_shape_that_is_repeated_changes_nothing(source, target, make):
    make(source)
    first = import_images(source, target, options=HALF)
    before = tree(target)
    second = import_images(source, target, options=HALF)

    assert tree(target) == before
    assert (second.copied, second.already_there) == (0, first.copied)
    assert second.images == first.images


@SHAPES
@pytest.mark.parametrize("count", [1, 30, 55])
def test_an_import_of_any_shape_that_was_killed_ends_as_if_it_had_not_been(
    source, target, tmp_path, make, count
):
    make(source)
    import_images(source, tmp_path / "unhurt", options=HALF)
    with pytest.raises(Killed):
        import_images(source, target, killed_after(count), HALF)
    import_images(source, target, options=HALF)

    assert tree(target) == tree(tmp_path / "unhurt")


@SHAPES
def test_a_source_that_has_grown_is_divided_as_before_and_moves_nothing(source, target, make):
    make(source)
    import_images(source, target, options=HALF)
    before = tree(target)
    more = {flat: "train/cat.{}.jpg", sets: "training_set/cats/{}.jpg", split: "train/cats/{}.jpg"}
    write(source, *(more.get(make, "cats/{}.jpg").format(number) for number in range(100, 160)))
    summary = import_images(source, target, options=HALF)

    assert before < tree(target)
    assert (summary.copied, summary.already_there) == (60, len(before))
    new = {path.split("/")[0] for path in tree(target) - before}
    expected = {flat: {"train", "valid", "test"}, sets: {"train", "valid"}, split: {"train"}}
    assert new == expected.get(make, {"train", "valid", "test"})


@SHAPES
@pytest.mark.parametrize("group", [None, r"(\d)\.jpg"])
def test_other_shares_later_move_nothing_and_keep_groups_together(source, target, make, group):
    make(source)
    import_images(source, target, options=ImportOptions(Shares(0.25, 0.25, group)))
    before = tree(target)
    write(
        source, *(f"{path.parent.relative_to(source)}/more{path.name}" for path in source.rglob("*/*0.jpg"))
    )
    summary = import_images(source, target, options=ImportOptions(Shares(0.6, 0.1, group)))

    assert before <= tree(target)
    assert len(tree(target)) == len(tree(source))
    assert summary.already_there == len(before)
    if group and make is folders:
        tens = {path.split("/")[0] for path in tree(target) if path.endswith("0.jpg")}
        assert len(tens) == 1


@SHAPES
def test_an_image_that_comes_again_under_another_name_is_there_already(source, target, tmp_path, make):
    make(source)
    import_images(source, target, options=HALF)
    before = tree(target)
    for path in sorted(target.rglob("*.jpg")):
        copy = tmp_path / "again" / path.parent.name / f"renamed {path.name}"
        if path.parent.name != "unknown":
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy.with_stem(f"{path.parts[-3]} {copy.stem}"))
    summary = import_images(tmp_path / "again", target, options=ImportOptions(Shares(0.6, 0.1)))

    assert tree(target) == before
    assert summary.copied == 0


def test_a_copy_that_a_delivery_puts_into_another_split_comes_for_the_gate_to_refuse(tmp_path, target):
    import_images(grow(tmp_path / "source"), target)
    seen = next((target / "test/cats").iterdir())
    delivery = write(tmp_path / "delivery", "train/cats/new.jpg")
    shutil.copy(seen, delivery / "train/cats/planted.jpg")
    summary = import_images(delivery, target)

    assert (target / "train/cats/planted.jpg").read_bytes() == seen.read_bytes()
    assert (summary.copied, summary.already_there) == (2, 0)
    assert import_images(delivery, target).already_there == 2


def test_a_copy_beside_an_image_that_is_there_already_comes_too(tmp_path, target):
    delivery = write(tmp_path / "delivery", "cats/a.jpg", "cats/c.jpg")
    import_images(delivery, target)
    shutil.copy(delivery / "cats/a.jpg", delivery / "cats/b.jpg")
    summary = import_images(delivery, target)
    assert (summary.copied, summary.already_there) == (1, 2)
    assert {path.rpartition("/")[2] for path in tree(target)} == {"a.jpg", "b.jpg", "c.jpg"}


def test_copies_within_a_source_all_come_so_that_the_gate_can_tell_of_them(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg", "test/cats/1.jpg")
    shutil.copy(source / "train/cats/1.jpg", source / "train/cats/2.jpg")
    shutil.copy(source / "train/cats/1.jpg", source / "test/cats/3.jpg")
    import_images(source, target)

    assert tree(target) == tree(source)


def test_unlabelled_images_keep_each_its_name(source, target):
    write(source, "unknown/1.jpg")
    import_images(source, target)
    shutil.copy(source / "unknown/1.jpg", source / "unknown/2.jpg")
    (source / "unknown/1.jpg").unlink()
    import_images(source, target)

    assert tree(target) == {"test/unknown/1.jpg", "test/unknown/2.jpg"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_two_images_for_one_place_are_refused_also_by_a_dry_run(source, target, dry_run):
    write(source, "train/cats/1.jpg", "val/cats/1.jpg", "valid/cats/1.jpg")

    with pytest.raises(DataError, match=r"valid/cats/1\.jpg is there already with other bytes"):
        import_images(source, target, options=ImportOptions(dry_run=dry_run))


def test_an_import_that_was_killed_can_be_repeated(source, target):
    write(source, *(f"cats/{number}.jpg" for number in range(20)))

    with pytest.raises(Killed):
        import_images(source, target, killed_after(7))
    assert len(tree(target)) == 7
    summary = import_images(source, target)

    assert (summary.copied, summary.already_there) == (13, 7)
    assert classes(target) == tree(source)


def test_other_bytes_are_never_overwritten(tmp_path, target):
    source = grow(tmp_path / "source")
    import_images(source, target)
    (source / "train" / "cats" / "0.jpg").write_bytes(jpeg(77))
    before = (target / "train" / "cats" / "0.jpg").read_bytes()

    with pytest.raises(
        DataError, match=r"train/cats/0\.jpg is there already with other bytes .* nothing is overwritten"
    ):
        import_images(source, target)
    assert (target / "train" / "cats" / "0.jpg").read_bytes() == before
    assert not (target / ".importing").exists()


def test_train_alone_is_not_divided_where_the_data_have_splits_already(tmp_path, source, target):
    grow(target)
    write(source, *(f"train/cats/more{number}.jpg" for number in range(30)))
    summary = import_images(source, target, options=HALF)

    assert summary.images == {"train": {"cats": 30}}


def test_unlabelled_images_alone_can_be_imported(source, target):
    write(source, "unknown/1.jpg", "unknown/2.jpg")
    import_images(source, target)

    assert tree(target) == {"test/unknown/1.jpg", "test/unknown/2.jpg"}


def test_a_class_called_train_is_a_class_beside_cars_and_planes(source, target):
    write(source, "car/1.jpg", "train/1.jpg", "plane/1.jpg")
    import_images(source, target)

    assert classes(target) == {"car/1.jpg", "train/1.jpg", "plane/1.jpg"}


def test_images_of_no_class_are_skipped(source, target):
    write(source, "cats/1.jpg", "dogs/1.jpg", "17.jpg")
    write(source, ".hidden/cats/2.jpg")
    (source / "cats" / "link.jpg").symlink_to("1.jpg")
    summary = import_images(source, target)

    assert classes(target) == {"cats/1.jpg", "dogs/1.jpg"}
    assert {(skip.path, skip.reason) for skip in summary.skipped} == {
        ("17.jpg", "not in a class folder"),
        (".hidden/cats/2.jpg", "a hidden file"),
        ("cats/link.jpg", "a link"),
    }


def test_a_file_over_the_limit_is_skipped(source, target, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 100)
    write(source, "cats/1.jpg")
    (source / "cats" / "huge.jpg").write_bytes(bytes(101))
    summary = import_images(source, target)

    assert [skip.path for skip in summary.skipped] == ["cats/huge.jpg"]


def test_a_source_that_is_missing_empty_or_the_target_itself_is_a_data_error(tmp_path, source, target):
    source.mkdir()
    grow(target)

    with pytest.raises(DataError, match="nothing to import at"):
        import_images(tmp_path / "missing", target)
    with pytest.raises(DataError, match="no images to import"):
        import_images(source, target)
    with pytest.raises(DataError, match="lie within each other"):
        import_images(target / "train", target)


def test_more_than_fits_on_the_disk_is_refused_before_copying(source, target):
    write(source, "cats/1.jpg")
    # A sparse file: as long as the disk and a bit, and nothing on it.
    with (source / "cats" / "2.jpg").open("wb") as file:
        file.truncate(sources.MAX_BYTES)
    for number in range(shutil.disk_usage(source).free // sources.MAX_BYTES + 1):
        (source / "cats" / f"link{number}.jpg").hardlink_to(source / "cats" / "2.jpg")

    with pytest.raises(DataError, match=r"don't fit into the .* GiB left on the disk"):
        import_images(source, target)
    assert tree(target) == set()


def test_what_is_there_already_needs_no_room_on_the_disk(source, target):
    write(source, "cats/1.jpg")
    (target / "train" / "cats").mkdir(parents=True)
    with (source / "cats" / "2.jpg").open("wb") as file:
        file.truncate(sources.MAX_BYTES)
    (target / "train" / "cats" / "2.jpg").hardlink_to(source / "cats" / "2.jpg")
    for number in range(shutil.disk_usage(source).free // sources.MAX_BYTES + 1):
        for folder in (source / "cats", target / "train" / "cats"):
            (folder / f"link{number}.jpg").hardlink_to(source / "cats" / "2.jpg")

    # Ended after the first one, since reading the others would take long.
    with pytest.raises(Killed):
        import_images(source, target, killed_after(1))
    assert "1.jpg" in {path.name for path in target.glob("*/cats/*")}


def test_the_summary_is_shown_as_a_table_and_as_json(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg", "train/cats/note\n.txt")
    summary = import_images(source, target)
    console = Console(width=100, file=io.StringIO())
    console.print(summary.to_table())
    shown = console.file.getvalue()

    assert "cats" in shown
    assert "1 skipped: not an image by its extension, such as train/cats/note\\n.txt" in shown
    assert json.loads(json.dumps(summary.to_dict()))["images"] == {"train": {"cats": 1}, "valid": {"cats": 1}}


def in_a_process(prepare: str, source: Path, target: Path) -> str:
    """What an import says in a process that was prepared by these lines."""
    code = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from vggflow.importing.import_images import import_images\n"
        "from vggflow.importing import archives\n"
        "from vggflow.errors import VggflowError\n"
        f"{prepare}\n"
        "try:\n"
        "    print(import_images(Path(sys.argv[1]), Path(sys.argv[2])).to_dict())\n"
        "except VggflowError as error:\n"
        "    print(error.exit_code, error)\n"
    )
    command = [sys.executable, "-c", code, str(source), str(target)]
    said = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert said.returncode == 0, said.stderr
    return said.stdout


NOBODY = "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)"


@pytest.fixture
def place(request):
    """A folder that another user can write to."""
    folder = Path(tempfile.mkdtemp())
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o777)
    return folder


def test_a_disk_that_is_full_is_told_in_one_line_and_leaves_nothing_half_done(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg")
    (source / "train" / "cats" / "2.jpg").write_bytes(bytes(5000))
    said = in_a_process("resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))", source, target)

    assert said.startswith(f"1 {target}/train/cats/2.jpg can't be written: File too large; mend that")
    assert tree(target) == {"train/cats/1.jpg"}


def test_a_target_without_permission_is_told_in_one_line(place):
    write(place / "source", "train/cats/1.jpg")
    (place / "data").mkdir(mode=0o755)

    assert in_a_process(NOBODY, place / "source", place / "data") == (
        f"1 {place}/data can't be written to: Permission denied\n"
    )


def test_a_folder_of_the_source_that_cannot_be_opened_is_told(place):
    write(place / "source", "train/cats/1.jpg", "train/dogs/1.jpg", "valid/cats/1.jpg")
    (place / "source" / "train" / "dogs").chmod(0)
    said = in_a_process(NOBODY, place / "source", place / "data")

    assert "'path': 'train/dogs', 'reason': \"the folder can't be opened: Permission denied\"" in said
    assert tree(place / "data") == {"train/cats/1.jpg", "valid/cats/1.jpg"}


@pytest.mark.parametrize("name", ["a.tar", "."])
def test_a_source_that_cannot_be_opened_is_a_data_error(place, name):
    source = write(place / "source", "cats/1.jpg")
    with tarfile.open(source / "a.tar", "w") as taped:
        taped.add(source / "cats", "cats")
    (source / "a.tar").chmod(0)
    (source / "cats").chmod(0)
    if name == ".":
        (source / "a.tar").unlink()
    said = in_a_process(NOBODY, source / name, place / "data")

    assert said.startswith("2 ")
    assert "Permission denied" in said
    assert said.count("\n") == 1


def test_progress_counts_all_images(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg", "train/cats/notes.txt")
    seen: list[tuple[int, int]] = []
    import_images(source, target, lambda done, total: seen.append((done, total)))

    assert seen == [(1, 2), (2, 2)]
