import numpy as np
import pandas as pd
import pytest

from vggflow.errors import UsageError
from vggflow.promotion.comparison import Side, compare, right
from vggflow.report.slices import NOT_KNOWN, slices, with_columns

NAMES = ("cats", "dogs")


@pytest.fixture
def predictions(make_predictions):
    return make_predictions(NAMES, images=100, skill=1.0)


def rows(predictions: pd.DataFrame, **columns) -> pd.DataFrame:
    numbers = np.arange(len(predictions))
    table = pd.DataFrame({"path": predictions["path"], "sha256": predictions["sha256"], "split": "test"})
    table["width"] = pd.array(200 + numbers, dtype="Int64")
    table["height"] = pd.array(500 - numbers, dtype="Int64")
    table["brightness"] = pd.array(numbers / 100, dtype="Float64")
    return table.assign(**columns)


def by(found, name):
    return [part for part in found if part.by == name]


def test_numbers_are_cut_into_quarters_that_add_up(predictions):
    comparison = compare(Side(predictions, NAMES, 1.0), None, "digest")
    parts = by(slices(comparison, rows(predictions)), "brightness")
    assert [part.images for part in parts] == [25, 25, 25, 25]
    assert [part.value for part in parts] == ["0 – 0.24", "0.25 – 0.49", "0.5 – 0.74", "0.75 – 0.99"]
    correct = right(predictions)
    assert parts[0].challenger == pytest.approx(correct[:25].mean()) and parts[0].champion is None
    assert np.mean([part.challenger for part in parts]) == pytest.approx(correct.mean())


def test_the_size_is_the_short_side(predictions):
    comparison = compare(Side(predictions, NAMES, 1.0), None, "digest")
    parts = by(slices(comparison, rows(predictions)), "short side in px")
    assert parts[0].value.startswith("200 – ") and parts[-1].value.endswith(" – 299")


def test_a_column_that_a_team_adds_is_cut_by_its_values(predictions, make_predictions):
    other = make_predictions(NAMES, images=100, skill=-1.0, seed=1)
    other[["path", "sha256", "truth"]] = predictions[["path", "sha256", "truth"]]
    comparison = compare(Side(predictions, NAMES, 1.0), Side(other, NAMES, 1.0), "digest")
    cameras = np.where(np.arange(100) % 4 == 0, "old", "new").astype(object)
    cameras[:10] = None
    parts = {part.value: part for part in by(slices(comparison, rows(predictions, camera=cameras)), "camera")}
    assert set(parts) == {"old", "new", "not known"} and parts["not known"].images == 10
    old = np.flatnonzero(cameras == "old")
    assert parts["old"].challenger == pytest.approx(right(predictions)[old].mean())
    assert parts["old"].champion == pytest.approx(right(other)[old].mean())


def test_of_many_values_the_most_frequent_are_shown_and_a_constant_is_not(predictions):
    comparison = compare(Side(predictions, NAMES, 1.0), None, "digest")
    who = [f"person {number % 30}" if number >= 30 else "ann" for number in range(100)]
    found = slices(comparison, rows(predictions, who=who, always="x"))
    assert len(by(found, "who")) == 12 and any(part.value == "ann" for part in found)
    assert by(found, "always") == []


def test_images_left_out_are_not_in_any_slice(predictions):
    scored = rows(predictions, class_name="cats", error=None, excluded=None)
    trained = scored.head(20).assign(split="train")
    comparison = compare(Side(predictions, NAMES, 1.0, trained), None, "digest", scored)
    parts = by(slices(comparison, scored), "brightness")
    assert sum(part.images for part in parts) == 80 and parts[0].value.startswith("0.2 – ")


def test_a_team_s_own_columns_come_from_a_file_beside_the_settings(predictions, tmp_path):
    path = tmp_path / "columns.csv"
    pd.DataFrame({"path": predictions["path"][:60], "camera": ["north", "south"] * 30}).to_csv(
        path, index=False
    )
    images = with_columns(rows(predictions), path)
    found = by(slices(compare(Side(predictions, NAMES, 1.0), None, "digest"), images), "camera")
    assert [(part.value, part.images) for part in found] == [("north", 30), ("south", 30), (NOT_KNOWN, 40)]
    assert with_columns(rows(predictions), tmp_path / "none.csv").equals(rows(predictions))


@pytest.mark.parametrize(
    "content",
    ["camera\nnorth\n", "path,width\na.jpg,3\n", "path,camera\na.jpg,1\na.jpg,2\n", "", 'path,"x\n'],
)
def test_a_file_of_columns_that_is_none_is_told_in_one_line(predictions, tmp_path, content):
    path = tmp_path / "columns.csv"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        with_columns(rows(predictions), path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_column_named_like_a_slice_of_our_own_is_refused(predictions, tmp_path):
    (tmp_path / "columns.csv").write_text(f"path,short side in px\n{predictions['path'][0]},12\n")
    with pytest.raises(UsageError, match="no name of vggflow's own columns"):
        with_columns(rows(predictions), tmp_path / "columns.csv")


def test_a_typed_path_names_the_image_whose_accents_are_decomposed(predictions, tmp_path):
    images = rows(predictions)
    images.loc[0, "path"] = "test/cafe\u0301/0.jpg"
    (tmp_path / "columns.csv").write_text("path,site\ntest/caf\u00e9/0.jpg,north\n", encoding="utf-8")
    found = with_columns(images, tmp_path / "columns.csv")
    assert found["site"][0] == "north" and found["site"][1:].isna().all()
    assert found["path"][0] == "test/cafe\u0301/0.jpg"
