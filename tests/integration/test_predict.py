"""`vggflow predict`: a few images in a table, many in a file, and what is no image."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny import COLOURS, Ran, draw

from vggflow import artifacts
from vggflow.models import start_keras
from vggflow.workspace import find

Run = Callable[..., Ran]


@pytest.fixture
def model(evaluated: Path) -> Path:
    """A trained model's file: it needs no workspace."""
    return find(evaluated).path(artifacts.MODEL)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures, and a file that is none."""
    folder = tmp_path / "pictures"
    draw(folder / "1.png", COLOURS["red"], 1)
    draw(folder / "2.png", COLOURS["blue"], 2)
    (folder / "10.png").write_bytes((folder / "1.png").read_bytes()[:60])
    return folder


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where Keras would be started."""

    def start(*_: object) -> None:
        raise AssertionError("Keras was about to start")

    monkeypatch.setattr(start_keras, "start", start)


def test_an_image_that_can_t_be_read_costs_its_row_and_no_other(
    vggflow: Run, model: Path, pictures: Path
) -> None:
    ran = vggflow("predict", pictures, "--model", model)
    assert ran.code == 0, ran.err
    head, *rows = [line.split() for line in ran.out.splitlines()]
    assert head == ["image", "label", "probability", "error"]
    assert [row[0] for row in rows] == [str(pictures / name) for name in ("1.png", "2.png", "10.png")]
    assert [row[1] for row in rows] == ["red", "blue", "–"]
    assert str(model) in ran.err

    strict = vggflow("predict", pictures, "--model", model, "--strict")
    assert (strict.code, strict.out) == (3, ran.out)
    assert "1 of 3 images can't be read" in strict.err


def test_json_has_the_probabilities_of_all_classes_and_top_names_several(
    vggflow: Run, model: Path, pictures: Path
) -> None:
    rows = json.loads(vggflow("predict", pictures, "--model", model, "--json").out)
    assert [sorted(row) for row in rows[:2]] == [["label", "path", "probabilities", "probability"]] * 2
    for row in rows[:2]:
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
        assert sum(row["probabilities"].values()) == pytest.approx(1.0)
    assert sorted(rows[2]) == ["error", "path"]
    top = vggflow("predict", pictures / "1.png", "--model", model, "--top", "2").out.splitlines()
    assert top[0].split() == ["image", "classes"]
    assert top[1].split()[1::2] == ["red", "blue"]


@pytest.mark.usefixtures("fast_scoring")
def test_heat_maps_lie_in_a_folder_one_for_each_image_that_can_be_read(
    vggflow: Run, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = tmp_path / "heat"
    monkeypatch.setattr("vggflow.commands.predict.MAPS_AT_ONCE", 1)
    ran = vggflow("predict", pictures, "--model", model, "--explain", heat)
    assert ran.code == 0, ran.err
    assert ran.out == vggflow("predict", pictures, "--model", model).out
    assert f"where it looked: {heat}" in ran.err
    assert sorted(path.name for path in heat.iterdir()) == ["0001-1.jpg", "0002-2.jpg"]
    with Image.open(heat / "0001-1.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 160))
    rows = json.loads(vggflow("predict", pictures, "--model", model, "--explain", heat, "--json").out)
    assert [row.get("heat_map") for row in rows] == [str(heat / "0001-1.jpg"), str(heat / "0002-2.jpg"), None]


def test_where_no_image_can_be_read_that_is_an_error(vggflow: Run, model: Path, pictures: Path) -> None:
    ran = vggflow("predict", pictures / "10.png", "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert "10.png: not a readable image" in ran.err.splitlines()[-1]


@pytest.mark.usefixtures("unstarted")
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.jpg"], "nowhere.jpg does not exist"),
        (["https://example.org/cat.jpg"], "is an address"),
        (["{model}", "-o", "out.txt"], "ends in .parquet, .csv, .jsonl"),
        (["{model}", "-o", "{model}/out.csv"], "can't be written to"),
        (["{model}", "--model", "nobody"], "no model 'nobody'"),
        (["{model}", "-o", "out.csv", "--json"], "leave them out"),
        (["{model}", "-o", "out.csv", "--explain", "heat"], "leave them out"),
        (["{model}", "--explain", "{model}"], "which is a file: name a folder"),
        (["{model}", "--model", "a.onnx", "--explain", "heat"], "has no gradients, name the .keras file"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_is_loaded(
    vggflow: Run, model: Path, arguments: list[str], word: str
) -> None:
    ran = vggflow("predict", *(each.format(model=model) for each in arguments))
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert word in ran.err


def test_a_list_on_standard_input_names_images(
    vggflow: Run, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = f"{pictures / '2.png'}\n\n{pictures / '1.png'}\n".encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(named)))
    rows = json.loads(vggflow("predict", "-", "--model", model, "--json").out)
    assert [Path(row["path"]).name for row in rows] == ["2.png", "1.png"]


def test_a_file_holds_a_row_for_each_image(vggflow: Run, model: Path, pictures: Path, tmp_path: Path) -> None:
    seen = json.loads(vggflow("predict", pictures, "--model", model, "--json").out)
    ran = vggflow("predict", pictures, "--model", model, "-o", tmp_path / "new" / "out.csv")
    assert ran.code == 0, ran.err
    assert "3 rows by" in ran.out
    assert "1 image can't be read" in ran.err
    with (tmp_path / "new" / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [row["path"] for row in seen]
    assert [row["label"] for row in rows] == ["red", "blue", ""]
    for row, told in zip(rows[:2], seen, strict=False):
        assert float(row["p:red"]) == told["probabilities"]["red"]
    assert rows[2]["error"] == seen[2]["error"]
    strict = vggflow("predict", pictures, "--model", model, "-o", tmp_path / "out.parquet", "--strict")
    assert strict.code == 3
    assert (tmp_path / "out.parquet").is_file(), "all rows are there all the same"
