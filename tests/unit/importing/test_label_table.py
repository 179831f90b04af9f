"""Labels in a table beside the images: which columns, which rows, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggflow.errors import DataError
from vggflow.importing.import_images import ImportOptions, LabelFile, Shares, import_images
from vggflow.importing.label_table import labelled


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(6):
        (folder / f"00{number}.jpg").write_bytes(bytes([number]))
    return folder


def table(folder: Path, content: str | bytes) -> Path:
    path = folder.parent / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def brought(source: Path, labels: LabelFile, shares: Shares | None = None) -> dict[str, str]:
    """The class of each image that came, and where its split is no question, by its name."""
    target = source.parent / "data"
    import_images(source, target, options=ImportOptions(shares or Shares(), labels=labels))
    return {path.name: path.relative_to(target).parts[1] for path in target.rglob("*.jpg")}


ROWS = ["cat", "dog", "cat", "dog", "cat", "dog"]
EXPECTED = {f"00{number}.jpg": kind for number, kind in enumerate(ROWS)}


@pytest.mark.parametrize("head", ["id,label", "Filename,Class", "image,category", "Image ID,Label"])
@pytest.mark.parametrize("form", ["00{}", "00{}.jpg", "images/00{}.jpg", ".\\00{}.png"])
def test_images_are_found_by_path_name_or_id_and_zeros_before_a_number_stay(
    source: Path, head: str, form: str
) -> None:
    rows = "".join(f"{form.format(number)},{kind}\n" for number, kind in enumerate(ROWS))

    assert brought(source, LabelFile(table(source, f"{head}\n{rows}"))) == EXPECTED


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace(",", ";").replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", "\t").encode("utf-16"),
        lambda text: text.replace("cat", '"cat"').encode() + b"\n\n",
    ],
)
def test_what_spreadsheets_write_is_read(source: Path, encoded: object) -> None:
    text = "id,label\n" + "".join(f"00{number},{kind}\n" for number, kind in enumerate(ROWS))

    assert brought(source, LabelFile(table(source, encoded(text)))) == EXPECTED  # type: ignore[operator]


def test_a_code_page_is_read_where_it_is_named(source: Path) -> None:
    text = "id,label\n" + "".join(f"00{number},Kätzchen\n" for number in range(6))
    path = table(source, text.encode("cp1252"))

    with pytest.raises(DataError, match=r"labels\.csv is not UTF-8: say what it is with --encoding"):
        brought(source, LabelFile(path))
    assert set(brought(source, LabelFile(path, encoding="cp1252")).values()) == {"Kätzchen"}


def test_columns_that_do_not_tell_what_they_are_are_asked_for(source: Path) -> None:
    path = table(source, "id,breed\n" + "".join(f"00{number},{kind}\n" for number, kind in enumerate(ROWS)))

    with pytest.raises(
        DataError,
        match=r"labels\.csv does not tell which column is the label; it has id, breed: name one with --label-column",
    ):
        brought(source, LabelFile(path))
    with pytest.raises(DataError, match=r"has no single column species; it has id, breed"):
        brought(source, LabelFile(path, label_column="species"))
    assert brought(source, LabelFile(path, label_column="breed")) == EXPECTED


def test_two_columns_that_may_be_the_image_are_asked_for(source: Path) -> None:
    path = table(
        source, "id,filename,label\n" + "".join(f"{n},00{n}.jpg,{kind}\n" for n, kind in enumerate(ROWS))
    )

    with pytest.raises(DataError, match="does not tell which column is the image"):
        brought(source, LabelFile(path))
    assert brought(source, LabelFile(path, image_column="filename")) == EXPECTED


def test_rows_without_an_image_and_images_without_a_row_are_counted(source: Path) -> None:
    path = table(source, "id,label\n000,cat\n001,dog\n002,cat\n003,cat\n777,cat\n778,dog\n")
    summary = import_images(source, source.parent / "data", options=ImportOptions(labels=LabelFile(path)))

    assert summary.copied == 4
    assert summary.notes == ("2 rows of labels.csv name no image that is there",)
    assert [(skip.path, skip.reason) for skip in summary.skipped] == [
        ("004.jpg", "without a label in labels.csv"),
        ("005.jpg", "without a label in labels.csv"),
    ]


def test_a_table_that_labels_the_lesser_part_is_an_error(source: Path) -> None:
    path = table(source, "id,label\n000,cat\n001,dog\n")

    with pytest.raises(
        DataError, match=r"4 images of .* would be lost and only 2 come: 4 skipped: without a label"
    ):
        brought(source, LabelFile(path))
    assert not (source.parent / "data").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "000,cat\n000,dog\n",
            r"names 1 images more than once, such as 000 as cat and dog: one row for each image",
        ),
        ("000,cat\n000,cat\n", r"names 1 images more than once, such as 000 as cat"),
        ("000,cat,3\n", r"row 2 has not the 2 columns of the first row"),
        ("000,\n", r"000 has the label '', which can't be the name of a folder"),
        ("000,a/b\n", r"000 has the label 'a/b', which can't be the name of a folder"),
        ("000,Unknown\n", r"the label Unknown is kept for images without one"),
        (
            "x,cat\ny,cat\n",
            r"no row of .* names an image: it says x, y, and there are files such as 000\.jpg",
        ),
        ("", r"has 1 rows: expected one with the columns' names"),
        ('"000,cat\n', r"is no CSV: "),
    ],
)
def test_tables_that_contradict_themselves_or_fit_nothing_are_refused(
    source: Path, rows: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        brought(source, LabelFile(table(source, f"id,label\n{rows}")))
    with pytest.raises(DataError, match="can't be read: No such file"):
        brought(source, LabelFile(source / "none.csv"))


def test_a_row_that_fits_two_images_is_refused(source: Path) -> None:
    (source / "more").mkdir()
    (source / "more" / "000.jpg").write_bytes(b"another")

    with pytest.raises(
        DataError, match=r"may be more/000\.jpg and 000\.jpg|may be 000\.jpg and more/000\.jpg"
    ):
        brought(source, LabelFile(table(source, "id,label\n000,cat\n001,dog\n")))


def test_test_images_without_a_row_are_unlabelled_and_splits_stay(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(40):
        path = source / ("train" if number < 30 else "test") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    path = table(
        source, "id,label\n" + "".join(f"{number},{'cat' if number % 2 else 'dog'}\n" for number in range(30))
    )
    summary = import_images(source, tmp_path / "data", options=ImportOptions(labels=LabelFile(path)))

    assert summary.images["test"]["unknown"] == 10
    assert (
        sum(sum(summary.images[split].values()) for split in ("train", "valid"))
        + sum(count for name, count in summary.images["test"].items() if name != "unknown")
        == 30
    )
    assert summary.description == "labels from labels.csv: divided by content"
    again = import_images(source, tmp_path / "data", options=ImportOptions(labels=LabelFile(path)))
    assert (again.copied, again.already_there) == (0, 40)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(
            st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters='/\\"'),
            min_size=1,
            max_size=9,
        ).filter(lambda name: name.strip(".") == name),
        st.sampled_from(["chat à côté", "子猫", "котёнок", "고양이", "قطة"]),
        min_size=1,
    )
)
def test_labels_in_any_script_reach_their_images(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, str]
) -> None:
    import csv
    import unicodedata
    from pathlib import PurePosixPath

    if len({unicodedata.normalize("NFC", name) for name in rows}) < len(rows):
        return
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    with file.open("w", newline="", encoding="utf-8") as written:
        csv.writer(written).writerows([("file", "class"), *rows.items()])
    paths = {PurePosixPath(f"photos/{name}.jpg"): kind for name, kind in rows.items()}
    shape, notes = labelled(list(paths), LabelFile(file), Shares())

    assert shape.classes == paths
    assert notes == []
