"""`vggflow summary`, `compare` and `explain`, as a person runs them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import Ran, draw, write_params

from vggflow.commands import register
from vggflow.workspace import find, recipes

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def registered(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registered") / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    register.register(find(root))
    return root


@pytest.fixture
def elsewhere(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is no workspace; it holds a model and some pictures of its classes."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(evaluated / "data/test", folder / "pictures")
    shutil.copyfile(evaluated / "model/model.keras", folder / "a.keras")
    monkeypatch.chdir(folder)
    return folder


def _one_line(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1, ran.err
    for word in words:
        assert word in ran.err


@pytest.mark.usefixtures("weights_of_zeros")
# Two more networks of VGG16's whole head, 138 million numbers each.
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("from-scratch", "last-layer") else name
        for name in recipes()
    ],
)
def test_the_summary_of_every_recipe_is_whole_in_80_columns(
    vggflow: Run, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = vggflow("summary", "--recipe", recipe)
    assert ran.code == 0, ran.err
    lines = [line.rstrip() for line in ran.out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "…" not in ran.out
    content = json.loads(vggflow("summary", "--recipe", recipe, "--json").out)
    for layer in content["layers"]:
        assert any(line.startswith(f"{layer['name']} ") for line in lines), layer["name"]
    for number, phase in enumerate(content["phases"], start=1):
        row = next(line.split() for line in lines if line.startswith(f"{number} {phase['name']} "))
        assert row[2:5] == [
            phase["freeze_through"],
            f"{phase['learning_parameters']:,}",
            f"{phase['frozen_parameters']:,}",
        ]


def test_the_summary_of_a_workspace_counts_the_classes_that_training_sees(
    vggflow: Run, workspace: Path
) -> None:
    (workspace / "data/train/.cache").mkdir()
    (workspace / "data/train/.trash").mkdir()
    shapes = {
        layer["name"]: layer["output_shape"]
        for layer in json.loads(vggflow("-C", workspace, "summary", "--json").out)["layers"]
    }
    assert shapes["predictions"] == [1], "one sigmoid unit for two classes"


@pytest.mark.slow
def test_the_summary_of_a_registered_model_has_the_phases_that_it_was_trained_in(
    vggflow: Run, registered: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(registered, root, symlinks=True)
    write_params(root, train={"phases": [{"name": "later", "epochs": 1}]})
    content = json.loads(vggflow("-C", root, "summary", "--model", "challenger", "--json").out)
    assert [phase["name"] for phase in content["phases"]] == ["all", "head"]
    learns = {layer["name"]: layer["learns_in"] for layer in content["layers"]}
    assert (learns["block1_conv1"], learns["predictions"]) == (["all"], ["all", "head"])


def test_a_recipe_and_a_model_at_once_are_refused(vggflow: Run) -> None:
    _one_line(
        vggflow("summary", "--recipe", "quick", "--model", "a.keras"), 2, "--recipe quick", "--model a.keras"
    )


def test_both_builders_agree_also_where_padding_is_explicit(vggflow: Run, workspace: Path) -> None:
    model = {"width": 1.0, "padding": "explicit", "two_class_output": "softmax", "head": "flatten"}
    write_params(workspace, model=model)
    for number in range(3):
        draw(workspace / f"data/test/unknown/{number}.png", (90, 90, 90), number)
    arguments = ("-C", workspace, "compare", "builder:keras", "builder:sequential")
    ran = vggflow(*arguments, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["largest_difference"] < 1e-5
    assert found["agreement"] == 1.0
    assert (found["images"], found["labelled"]) == (15, 12)
    assert found["accuracy"][0] == found["accuracy"][1]
    assert Path(found["most_different"]).is_file()
    assert min(found["seconds"]) > 0.0


def test_what_a_builder_cannot_do_is_said_in_one_line(vggflow: Run, workspace: Path) -> None:
    compare = ("-C", workspace, "compare", "builder:sequential")
    _one_line(vggflow(*compare, "builder:keras"), 2, "width", "0.125", "1.0")
    _one_line(vggflow(*compare, "builder:torch"), 2, "'torch'", "builder:keras or builder:sequential")


@pytest.mark.parametrize(
    ("content", "words"),
    [("model: [", "is not YAML"), ("train: {}", "`model` is missing"), ("model: 3", "`model`")],
)
def test_settings_that_are_wrong_are_one_line_for_a_builder_too(
    vggflow: Run, workspace: Path, content: str, words: str
) -> None:
    (workspace / "params.yaml").write_text(content)
    _one_line(vggflow("-C", workspace, "compare", "builder:keras", "builder:sequential"), 2, words)


@pytest.mark.parametrize("name", ["²", "candidate:²", "candidate:", "newest"])
def test_a_name_that_no_model_goes_by_is_one_line(vggflow: Run, workspace: Path, name: str) -> None:
    _one_line(vggflow("-C", workspace, "compare", name, "champion"), 2, repr(name), "a version such as 3")


def test_files_need_no_workspace(vggflow: Run, elsewhere: Path) -> None:
    shutil.copyfile("a.keras", "b.keras")
    ran = vggflow("compare", "a.keras", "b.keras", "--data", "pictures")
    assert ran.code == 0, ran.err
    assert "12 images, 12 of them labelled" in ran.out
    assert vggflow("explain", "pictures/red/0.png", "--model", "a.keras", "-o", "seen.png").code == 0
    assert vggflow("summary", "--model", "b.keras").code == 0
    _one_line(vggflow("compare", "a.keras", "champion", "--data", "pictures"), 2, "is no workspace")
    _one_line(vggflow("compare", "a.keras", "absent.keras", "--data", "pictures"), 2, "no model file absent")
    _one_line(vggflow("explain", "pictures/red/0.png"), 2, "is no workspace")


def test_the_picture_is_written_whole_and_names_the_class(vggflow: Run, elsewhere: Path) -> None:
    ran = vggflow("explain", "pictures/red/0.png", "--model", "a.keras", "-o", "new/seen.png")
    assert ran.code == 0, ran.err
    label, probability = ran.out.removeprefix("new/seen.png: ").strip().split(", ")
    assert label in ("blue", "red")
    assert 0.5 <= float(probability.removesuffix("%")) / 100 <= 1.0
    picture = np.asarray(Image.open("new/seen.png").convert("RGB"))
    assert picture.shape == (740, 1300, 3)
    assert [path.name for path in Path("new").iterdir()] == ["seen.png"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(vggflow: Run, elsewhere: Path) -> None:
    # No model has these names: an error about the place shows that it was looked at first.
    for place, words in [
        ("pictures", "is a folder"),
        ("a.keras/seen.png", "can't write"),
        ("/proc/seen.png", "can't write"),
    ]:
        ran = vggflow("explain", "pictures/red/0.png", "--model", "absent.keras", "-o", place)
        _one_line(ran, 2, place, words)
    _one_line(vggflow("explain", "a.keras", "--model", "a.keras"), 2, "a.keras: not a readable image")
    _one_line(vggflow("explain", "none.png", "--model", "a.keras"), 2, "none.png: not a readable image")


def test_a_backend_without_gradients_is_refused_in_one_line(elsewhere: Path) -> None:
    command = [sys.executable, "-m", "vggflow.cli", "explain", "pictures/red/0.png", "--model", "a.keras"]
    ran = subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": "numpy"}, capture_output=True, text=True, check=False
    )
    _one_line(Ran(ran.returncode, ran.stdout, ran.stderr), 2, "numpy", "tensorflow or jax")
    assert not Path("explanation.png").exists()


def test_two_candidates_are_told_apart_by_number_and_alias(vggflow: Run, registered: Path) -> None:
    ran = vggflow("-C", registered, "compare", "candidate:1", "challenger", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["names"] == ["candidate:1", "challenger"]
    assert found["largest_difference"] == 0.0
