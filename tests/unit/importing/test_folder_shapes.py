"""Shapes of deliveries: recognised where they explain nearly all images, refused with what was seen where not."""

import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggflow.data import names
from vggflow.data.class_folders import class_folders
from vggflow.errors import DataError
from vggflow.importing.folder_shapes import Place, Ways, recognise
from vggflow.importing.import_images import ImportOptions, import_images
from vggflow.importing.splitting import Shares


def many(pattern: str, count: int, start: int = 0) -> list[PurePosixPath]:
    return [PurePosixPath(pattern.format(number)) for number in range(start, start + count)]


def placed(paths: list[PurePosixPath], ways: Ways | None = None) -> Counter[tuple[str | None, str]]:
    """Images per split and class."""
    shape = recognise(paths, Shares(), ways)
    places = [place for path in paths if isinstance(place := shape.place(path), Place)]
    return Counter((place.split, place.class_name) for place in places)


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(f"bytes of {path}".encode())
    return root


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def classes(root: Path) -> set[str]:
    return {path.split("/")[1] for path in tree(root)}


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        # A few names with a number behind a word among names without one.
        (many("holiday {} at sea.jpg", 90) + many("cat.{}.jpg", 5) + many("dog.{}.jpg", 5),
         "100 of 100 images are not in a class folder"),
        # What cameras write is no class.
        (many("IMG_{}.jpg", 50) + many("DSC{}.jpg", 50), "100 of 100 images are not in a class folder, and no class"),
        # Names that no two files share.
        ([PurePosixPath(f"{chr(97 + n)}nna 1.jpg") for n in range(20)], "20 of 20 images are not in a class folder"),
        # One folder beside very many loose files.
        (many("cat.{}.jpg", 60) + many("dog.{}.jpg", 60) + many("extra/{}.jpg", 5), "120 of 125 images are not in a"),
        # A third name beside two of splits.
        (
            many("train/cats/{}.jpg", 60) + many("test/cats/{}.jpg", 20) + many("holdout/cats/{}.jpg", 20),
            "20 of 100 images are not in a folder train, valid or test, such as holdout/cats/0.jpg",
        ),
        # A split beside classes.
        (
            many("cats/{}.jpg", 60) + many("dogs/{}.jpg", 60) + many("val/cats/{}.jpg", 3) + many("val/dogs/{}.jpg", 3),
            "folders called cats lie in val, so it can't be told which are the classes",
        ),
        # Sites or rounds above the classes.
        (
            [path for site in "ab" for kind in ("cats", "dogs") for path in many(f"{site}/{kind}/{{}}.jpg", 9)],
            "folders called cats lie in a, b, so it can't be told which are the classes",
        ),
        # Numbers for images to be predicted, and others with a class in the name.
        (many("{}.jpg", 50) + many("cat.{}.jpg", 50), "50 of 100 images are not in a class folder"),
        # Test images of which half name a class.
        (
            many("train/cats/{}.jpg", 30) + many("train/dogs/{}.jpg", 30) + many("test/cats.{}.jpg", 10)
            + many("test/bird.{}.jpg", 10),
            "10 of 20 names in test tell a class of train, the others none",
        ),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_explain_nearly_all_images_is_refused_with_what_was_seen(
    delivery: list[PurePosixPath], reason: str
) -> None:
    with pytest.raises(DataError) as refused:
        recognise(delivery, Shares())
    said = str(refused.value)
    assert said.startswith(f"no shape fits these images: {reason}"), said
    assert "; seen: " in said
    assert said.endswith("or name their classes in a table with --labels")
    assert "\n" not in said


def test_what_was_seen_is_told_by_depth_with_counts_folders_and_examples() -> None:
    with pytest.raises(DataError) as refused:
        recognise(
            many("a{}.jpg", 3) + [path for n in range(6) for path in many(f"f{n}/x/{{}}.jpg", 2)], Shares()
        )
    assert "seen: 3 such as a0.jpg; 12 such as f0/x/0.jpg in f0, f1, f2, f3 and 2 more" in str(refused.value)


def test_a_refused_delivery_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "source", *map(str, many("IMG_{}.jpg", 9)), "cats/1.jpg")

    with pytest.raises(DataError, match="no shape fits"):
        import_images(tmp_path / "source", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_one_odd_file_in_twenty_changes_no_shape() -> None:
    loose = [PurePosixPath("PetImages/logo.png"), PurePosixPath("cover.jpg")]
    found = placed(many("PetImages/Cat/{}.jpg", 30) + many("PetImages/Dog/{}.jpg", 30) + loose)

    assert found == {(None, "Cat"): 30, (None, "Dog"): 30}


def test_loose_test_images_beside_class_folders_of_train_are_unlabelled() -> None:
    train = many("train/cats/{}.jpg", 20) + many("train/dogs/{}.jpg", 20)

    assert placed(train + many("test/img_{}.jpg", 10))["test", "unknown"] == 10
    assert placed(train + many("test/cats.{}.jpg", 10))["test", "cats"] == 10


def test_a_single_class_in_names_counts_where_the_data_have_it() -> None:
    paths = many("cat.{}.jpg", 20)

    with pytest.raises(DataError, match="no shape fits"):
        recognise(paths, Shares())
    assert placed(paths, Ways(known=frozenset({"cat", "dog"}))) == {(None, "cat"): 20}


@pytest.mark.parametrize(("which", "found"), [("first", {"a", "b"}), ("last", {"cats", "dogs"})])
def test_a_person_can_say_which_folder_is_the_class(tmp_path: Path, which: str, found: set[str]) -> None:
    sites = [f"{site}/{kind}/{n}.jpg" for site in "ab" for kind in ("cats", "dogs") for n in range(4)]
    options = ImportOptions(class_folder=which)  # type: ignore[arg-type]
    summary = import_images(write(tmp_path / "source", *sites), tmp_path / "data", options=options)

    assert classes(tmp_path / "data") == found
    assert summary.copied == 16


def test_folders_within_classes_that_have_names_of_their_own_are_no_doubt() -> None:
    paths = [
        path for kind in ("cats", "dogs") for n in range(5) for path in many(f"{kind}/{kind}{n}/{{}}.jpg", 3)
    ]

    assert placed(paths) == {(None, "cats"): 15, (None, "dogs"): 15}


@pytest.mark.parametrize("folder", ["train/unknown", "valid/Unknown", "unknown", "UNKNOWN"])
def test_a_folder_called_unknown_is_refused_where_it_may_be_a_class(tmp_path: Path, folder: str) -> None:
    splits = "/" in folder
    others = ["train/cats/1.jpg", "valid/cats/1.jpg"] if splits else ["cats/1.jpg", "dogs/1.jpg"]
    source = write(tmp_path / "source", f"{folder}/1.jpg", f"{folder}/2.jpg", *others)

    with pytest.raises(
        DataError, match=rf"2 images lie in a folder {folder}, which is kept .* rename it, such as to `other`"
    ):
        import_images(source, tmp_path / "data")
    import_images(source, tmp_path / "data", options=ImportOptions(unlabelled=True))

    assert {path for path in tree(tmp_path / "data") if "nknown" in path.lower()} == {
        "test/unknown/1.jpg", "test/unknown/2.jpg"
    }  # fmt: skip


def test_unlabelled_images_in_test_need_no_word() -> None:
    paths = many("train/cats/{}.jpg", 5) + many("valid/cats/{}.jpg", 5) + many("test/unknown/{}.jpg", 5)

    assert placed(paths)["test", "unknown"] == 5


CAFE = "café"
DECOMPOSED = unicodedata.normalize("NFD", CAFE)


@pytest.mark.parametrize("other", [DECOMPOSED, "café ", " café", "café."])
def test_a_class_that_is_written_in_two_ways_is_one_class_and_told(tmp_path: Path, other: str) -> None:
    source = write(tmp_path / "source", f"{CAFE}/1.jpg", f"{other}/2.jpg", "dogs/1.jpg")
    (note,) = import_images(source, tmp_path / "data").notes

    assert classes(tmp_path / "data") == {CAFE, "dogs"}
    assert note.startswith(f"class {other!a} differs only in ")
    assert note.endswith(f" from {CAFE!a}: it goes there")


def test_a_workspace_with_decomposed_names_keeps_them(tmp_path: Path) -> None:
    write(tmp_path / "data", *(f"{split}/{DECOMPOSED}/0.jpg" for split in ("train", "valid", "test")))
    before = tree(tmp_path / "data")
    summary = import_images(write(tmp_path / "source", f"{CAFE}/1.jpg"), tmp_path / "data")

    assert classes(tmp_path / "data") == {DECOMPOSED}
    assert len(tree(tmp_path / "data") - before) == 1
    assert "how its accents are written" in summary.notes[0]


@pytest.mark.parametrize("there", ["", "train/Cats/0.jpg"])
def test_classes_that_differ_in_case_are_refused_before_anything_is_copied(
    tmp_path: Path, there: str
) -> None:
    if there:
        write(tmp_path / "data", there)
    source = write(tmp_path / "source", "cats/1.jpg", "dogs/1.jpg", *([] if there else ["Cats/2.jpg"]))
    before = tree(tmp_path / "data")

    with pytest.raises(DataError, match=r"classes Cats and cats may be one folder on another machine"):
        import_images(source, tmp_path / "data")
    assert tree(tmp_path / "data") == before


def test_classes_that_were_there_side_by_side_stay(tmp_path: Path) -> None:
    write(tmp_path / "data", "train/Cats/0.jpg", "train/cats/0.jpg")
    import_images(write(tmp_path / "source", "Cats/1.jpg", "cats/2.jpg"), tmp_path / "data")

    assert classes(tmp_path / "data") == {"Cats", "cats"}


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(NAMES)
def test_a_name_in_any_script_has_one_key_however_it_is_written(name: str) -> None:
    written = [name, f"{name} ", unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)]
    if name.strip().strip("."):
        assert len({names.key(one) for one in written}) == 1
    assert names.tidy(names.tidy(name)) == names.tidy(name)
    assert names.tidy(name)


@given(st.sets(NAMES, min_size=1, max_size=6), st.sets(NAMES, max_size=4))
def test_every_class_goes_to_a_folder_of_its_own_key_and_no_two_folders_have_one(
    delivered: set[str], there: set[str]
) -> None:
    try:
        called, notes = class_folders(delivered, there)
    except DataError as error:
        assert "may be one folder on another machine" in str(error)
        return
    assert called.keys() == delivered
    assert all(names.key(name) == names.key(folder) for name, folder in called.items())
    assert all(called[name] == name for name in delivered & there)
    new = set(called.values()) - there
    assert len({names.key(folder) for folder in new | there}) >= len(new)
    assert len(notes) == sum(name != folder for name, folder in called.items())


@given(
    st.lists(
        NAMES.filter(lambda name: "/" not in name and name not in (".", "..")),
        min_size=2,
        max_size=5,
        unique=True,
    )
)
def test_class_folders_in_any_script_are_classes_by_their_names(folders: list[str]) -> None:
    usual = [name for name in folders if names.key(name) != "unknown" and not name.startswith(".")]
    paths = [PurePosixPath(name, f"{number}.jpg") for name in usual for number in range(3)]
    split_names = {"train", "training", "valid", "val", "validation", "test", "testing", "test1"}
    if len(usual) > 1 and not {name.lower() for name in usual} & split_names:
        assert placed(paths) == {(None, name): 3 for name in usual}
