"""A list of images with labels: those that have one go to train, the others wait."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vggflow.errors import DataError
from vggflow.importing.import_images import import_images

Write = Callable[..., Path]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    for number in range(4):
        path = folder / ("nested" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 40, 10, 10)).save(path)
    return folder


@pytest.fixture
def write(tmp_path: Path, inbox: Path) -> Write:
    def make(*rows: tuple[str, str], digest: str | None = None) -> Path:
        path = tmp_path / "next.csv"
        lines = ["label,image,guess,probability,margin,sha256"]
        for label, name in rows:
            there = (inbox / name).is_file()
            real = hashlib.sha256((inbox / name).read_bytes()).hexdigest() if there else ""
            lines.append(f"{label},{inbox / name},cats,0.5,0.1,{real if digest is None else digest}")
        path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_labelled_rows_go_to_train_and_the_others_wait(tmp_path: Path, write: Write) -> None:
    table = write(("cats", "0.png"), ("dogs", "nested/1.png"), ("", "2.png"))
    summary = import_images(table, tmp_path / "data")
    assert summary.copied == 2
    found = files(tmp_path / "data")
    assert len(found) == 2
    assert found[0].startswith("train/cats/") and found[1].startswith("train/dogs/")
    assert "1 rows of next.csv have no label yet" in " ".join(summary.notes)
    # Run again with one more label it brings that one.
    again = import_images(
        write(("cats", "0.png"), ("dogs", "nested/1.png"), ("cats", "2.png")), tmp_path / "data"
    )
    assert again.copied == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("", "0.png")], "no row has a label yet"),
        ([("../x", "0.png")], "can't be the name of a folder"),
        ([("cats", "0.png"), ("dogs", "0.png")], "more than once"),
    ],
)
def test_what_can_t_be_meant_is_refused(
    tmp_path: Path, write: Write, rows: list[tuple[str, str]], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        import_images(write(*rows), tmp_path / "data")
    assert not (tmp_path / "data").exists() or files(tmp_path / "data") == []


def test_images_that_are_gone_or_changed_are_not_brought_in(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError):
        import_images(write(("cats", "9.png")), tmp_path / "data")
    with pytest.raises(DataError):
        import_images(write(("cats", "0.png"), digest="0" * 64), tmp_path / "data")
    assert files(tmp_path / "data") == []


def test_another_table_is_told_from_a_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,breed\n0,cats\n")
    with pytest.raises(DataError, match="is named with --labels"):
        import_images(path, tmp_path / "data")
