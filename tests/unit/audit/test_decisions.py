"""Decisions about images: what is understood, and what is refused before anything moves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vggflow.audit import decisions
from vggflow.errors import DataError, UsageError
from vggflow.files import sha256

Write = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for split, count in (("train", 3), ("valid", 1)):
        for name in ("cats", "dogs"):
            for number in range(count):
                path = folder / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"{split} {name} {number}".encode())
    return folder


@pytest.fixture
def write(data: Path, tmp_path: Path) -> Write:
    """Writes a table of (decision, path), with the hashes that the files have."""

    def make(*rows: tuple[str, str], digest: str = "") -> Path:
        path = tmp_path / "suspects.csv"
        lines = ["decision,path,class_name,suggested,sha256"]
        for decision, name in rows:
            there = (data / name).is_file()
            lines.append(f"{decision},{name},x,y,{digest or (sha256(data / name) if there else '0' * 64)}")
        path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
        return path

    return make


def test_decisions_are_read_however_they_are_written(data: Path, write: Write) -> None:
    table = write(
        ("move dogs", "train/cats/0.jpg"),
        (" EXCLUDE ", "train/cats/1.jpg"),
        ("Keep", "train/cats/2.jpg"),
        ("", "train/dogs/0.jpg"),
    )
    found = decisions.read(table)
    assert [(each.path, each.target) for each in found] == [
        ("train/cats/0.jpg", "dogs"),
        ("train/cats/1.jpg", ""),
    ]
    # A name that is taken gets some of its own bytes' hash.
    moves = decisions.moves(table, found, data)
    assert moves == {"train/cats/0.jpg": f"train/dogs/0-{sha256(data / 'train/cats/0.jpg')[:8]}.jpg"}


def test_a_class_with_a_space_in_its_name_can_be_meant(data: Path, write: Write) -> None:
    (data / "train" / "grey hounds").mkdir()
    table = write(("move grey hounds", "train/cats/0.jpg"))
    moves = decisions.moves(table, decisions.read(table), data)
    assert moves == {"train/cats/0.jpg": "train/grey hounds/0.jpg"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("move", "train/cats/0.jpg")], "decision 'move' is not known"),
        ([("dogs", "train/cats/0.jpg")], "expected keep, exclude or move CLASS"),
        ([("keep it", "train/cats/0.jpg")], "is not known"),
        ([("move birds", "train/cats/0.jpg")], "no class birds: expected one of cats, dogs"),
        ([("move cats", "train/cats/0.jpg")], "is labelled cats already"),
        ([("exclude", "train/cats/9.jpg")], "is no labelled image of data/"),
        ([("exclude", "../data/train/cats/0.jpg")], "is no labelled image of data/"),
        ([("exclude", "train/cats")], "is no labelled image of data/"),
        ([("exclude", "/etc/passwd")], "is no labelled image of data/"),
        (
            [("exclude", "train/cats/0.jpg"), ("keep", "train/cats/0.jpg")],
            "lines 2 and 3 are about one image",
        ),
        ([("exclude", "train/cats/0.jpg"), ("", "train/cats/0.jpg")], "lines 2 and 3 are about one image"),
        ([("exclude", "valid/cats/0.jpg")], "valid/cats would have no image left"),
        ([("move dogs", "valid/cats/0.jpg")], "valid/cats would have no image left"),
        ([("exclude", f"train/cats/{n}.jpg") for n in range(3)], "train/cats would have no image left"),
    ],
)
def test_what_can_t_be_carried_out_is_refused_by_its_line(
    data: Path, write: Write, rows: list[tuple[str, str]], told: str
) -> None:
    table = write(*rows)
    with pytest.raises(UsageError) as refused:
        decisions.moves(table, decisions.read(table), data)
    assert told in str(refused.value)
    assert str(table) in str(refused.value)


def test_an_image_that_changed_is_refused(data: Path, write: Write) -> None:
    table = write(("exclude", "train/cats/0.jpg"), digest="f" * 64)
    with pytest.raises(UsageError, match="has other bytes than it had"):
        decisions.moves(table, decisions.read(table), data)


def test_a_class_of_which_the_rest_is_left_out_already_is_not_emptied(data: Path, write: Write) -> None:
    table = write(("exclude", "train/cats/0.jpg"))
    out = [sha256(data / "train" / "cats" / f"{number}.jpg") for number in (1, 2)]
    decisions.moves(table, decisions.read(table), data, out[:1])
    with pytest.raises(UsageError, match="no image left"):
        decisions.moves(table, decisions.read(table), data, out)


def test_a_copy_is_left_out_too_and_may_be_the_last_one(data: Path, write: Write) -> None:
    for number in (1, 2):
        (data / "train" / "cats" / f"{number}.jpg").write_bytes(
            (data / "train" / "cats" / "0.jpg").read_bytes()
        )
    table = write(("exclude", "train/cats/0.jpg"))
    with pytest.raises(UsageError, match="no image left"):
        decisions.moves(table, decisions.read(table), data)


def test_two_classes_may_change_their_only_image(data: Path, write: Write) -> None:
    table = write(("move dogs", "valid/cats/0.jpg"), ("move cats", "valid/dogs/0.jpg"))
    moves = decisions.moves(table, decisions.read(table), data)
    assert len(set(moves.values())) == 2


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_what_a_program_for_tables_puts_between_columns_is_seen(
    data: Path, write: Write, delimiter: str
) -> None:
    table = write(("exclude", "train/cats/0.jpg"))
    table.write_text(table.read_text("utf-8").replace(",", delimiter), encoding="utf-8")
    assert [each.path for each in decisions.read(table)] == ["train/cats/0.jpg"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"path,sha256\na,b\n", "has no column decision"),
        (b"", "has 0 rows"),
        (b"decision,path,sha256\n", "has 1 rows"),
        ("decision,path,sha256\nkeep,Köln,1\n".encode("latin-1"), "is not UTF-8: save it as UTF-8"),
    ],
)
def test_another_file_is_no_table(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "other.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        decisions.read(tmp_path / "other.csv")
    with pytest.raises(DataError, match="can't be read"):
        decisions.read(tmp_path / "none.csv")
