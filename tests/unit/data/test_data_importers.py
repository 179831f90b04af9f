"""Imports of every layout: where images land, what is skipped, and that nothing is ever overwritten."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from made_pictures import grow, jpeg
from rich.console import Console

from vggflow.data import sources
from vggflow.data.importers import ImportOptions, Limits, Shares, import_images
from vggflow.data.splitting import choose_split
from vggflow.errors import DataError

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
        zipped.writestr("cats/1.jpg", b"x")
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
        for name in ("../outside.jpg", "cats/1.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 1
            taped.addfile(member, io.BytesIO(b"x"))
    zipped_summary = import_images(tmp_path / "evil.zip", target)
    taped_summary = import_images(tmp_path / "evil.tar", target)

    assert classes(target) == {"cats/1.jpg"}
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


def test_a_truncated_tar_is_a_data_error_or_skipped(source, target, tmp_path):
    write(source, *(f"cats/{number}.jpg" for number in range(30)))
    path = tmp_path / "short.tar.gz"
    with tarfile.open(path, "w:gz") as taped:
        taped.add(source, ".")
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(DataError, match="is no zip or tar that can be read"):
        import_images(path, target)


def test_a_dry_run_tells_the_same_and_writes_nothing(source, target):
    write(source, *(f"cats/{number}.jpg" for number in range(20)), "cats/notes.txt")
    dry = import_images(source, target, options=ImportOptions(HALF.shares, dry_run=True))
    assert not target.exists()
    wet = import_images(source, target, options=HALF)

    assert (dry.images, dry.copied, dry.skipped) == (wet.images, wet.copied, wet.skipped)


def test_an_import_that_was_killed_can_be_repeated(source, target):
    write(source, *(f"cats/{number}.jpg" for number in range(20)))

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        import_images(source, target, kill)
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


def test_the_summary_is_shown_as_a_table_and_as_json(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg", "train/cats/note\n.txt")
    summary = import_images(source, target)
    console = Console(width=100, file=io.StringIO())
    console.print(summary.to_table())
    shown = console.file.getvalue()

    assert "cats" in shown
    assert "1 skipped: not an image by its extension, such as train/cats/note\\n.txt" in shown
    assert json.loads(json.dumps(summary.to_dict()))["images"] == {"train": {"cats": 1}, "valid": {"cats": 1}}


def test_progress_counts_all_images(source, target):
    write(source, "train/cats/1.jpg", "valid/cats/1.jpg", "train/cats/notes.txt")
    seen: list[tuple[int, int]] = []
    import_images(source, target, lambda done, total: seen.append((done, total)))

    assert seen == [(1, 2), (2, 2)]
