"""`vggflow export`: other runtimes answer as Keras does, or nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import Ran

from vggflow.evaluation import export_check
from vggflow.evaluation.compare_models import Comparison

Command = Callable[..., Ran]
SIZE = 32


def _network(folder: Path, *, undecided: bool = False) -> Path:
    """A tiny VGG16; where it is undecided, its answers lie about a half, and rounding changes labels."""
    import keras

    from vggflow.models import builder, files, start_keras
    from vggflow.settings import ModelSettings

    start_keras.start("tensorflow")
    settings = ModelSettings(
        image_size_px=SIZE, weights="none", width=0.0625, builder="sequential", preprocessing="rescale"
    )
    model = builder.build(settings, ("cats", "dogs"), None, seed=1)
    kernel, bias = model.get_layer("predictions").get_weights()
    weights = np.random.default_rng(2).normal(0, 3, kernel.shape)
    model.get_layer("predictions").set_weights([weights, bias])
    if undecided:
        answers = model.predict(np.stack(_pixels(40)).astype(np.float32), verbose=0)[:, 0]
        middle = float(np.median(np.log(answers / (1 - answers))))
        model.get_layer("predictions").set_weights([weights, bias - middle])
    path = folder / "pets.keras"
    files.save(model, files.ModelInfo(("cats", "dogs"), SIZE, "stretch", "rescale"), path)
    keras.backend.clear_session()
    return path


def _pixels(count: int) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and images in folders of its classes."""
    folder = tmp_path_factory.mktemp("export")
    _network(folder)
    for number, pixels in enumerate(_pixels(40)):
        path = folder / "images" / ("cats", "dogs")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_onnx_file_answers_as_keras_and_predict_takes_it(
    vggflow: Command, place: Path, here: Path
) -> None:
    ran = vggflow("export", place / "pets.keras", "--format", "onnx", "--data", place / "images")
    assert ran.code == 0, ran.err
    assert "of 40 images 0 are answered otherwise" in ran.out
    assert sorted(path.name for path in here.iterdir()) == ["pets.onnx", "pets.onnx.report.json"]
    report = json.loads((here / "pets.onnx.report.json").read_text())
    assert (report["images"], report["labels_differ"], report["labelled"]) == (40, 0, 40)
    assert report["largest_difference"] < 1e-5 and report["class_names"] == ["cats", "dogs"]
    picture = place / "images/cats/0.png"
    rows = [
        json.loads(vggflow("predict", picture, "--model", model, "--json").out)[0]
        for model in (here / "pets.onnx", place / "pets.keras")
    ]
    assert rows[0]["probabilities"] == pytest.approx(rows[1]["probabilities"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["litert", "openvino", "savedmodel"])
def test_every_other_form_answers_as_keras(vggflow: Command, place: Path, here: Path, form: str) -> None:
    for _ in range(2):  # an export of before is replaced
        ran = vggflow("export", place / "pets.keras", "--format", form, "--data", place / "images")
        assert ran.code == 0, ran.err
        assert ran.err.splitlines() == [f"exporting {place / 'pets.keras'} as {form}"]
        assert "0 are answered otherwise" in ran.out
    assert len(list(here.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "litert", "openvino"])
def test_eight_bits_that_are_good_enough_are_written_and_others_refused(
    vggflow: Command, place: Path, here: Path, form: str
) -> None:
    options = ("--format", form, "--int8", "--data", place / "images", "--calibration", place / "images")
    ran = vggflow("export", place / "pets.keras", *options)
    assert ran.code == 0, ran.err
    written = {path.name for path in here.iterdir()}
    refused = vggflow(
        "export",
        _network(here, undecided=True),
        *options,
        "-o",
        here / f"refused{Path(sorted(written)[0]).suffix}",
    )
    assert refused.code == 3, refused.out
    assert "is not written: it " in refused.err.splitlines()[-1]
    assert {path.name for path in here.iterdir()} == written | {"pets.keras"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--format", "onnx", "-o", "x.tflite"), 2, "a file that ends in .onnx"),
        (("--format", "onnx", "-o", "nowhere/x.onnx"), 2, "no folder that can be written to"),
        (("--format", "savedmodel", "-o", "mine"), 2, "no export of before"),
        (("--format", "savedmodel", "--int8"), 2, "a SavedModel has no INT8"),
        (("--format", "onnx", "--data", "nowhere"), 2, "nowhere does not exist"),
    ],
)
def test_what_can_t_be_written_is_told_in_one_line(
    vggflow: Command, place: Path, here: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (here / "mine").mkdir()
    data = () if "--data" in arguments else ("--data", place / "images", "--calibration", place / "images")
    ran = vggflow("export", place / "pets.keras", *data, *arguments)
    assert ran.code == code
    assert said in ran.err.splitlines()[-1]
    assert [path.name for path in here.iterdir()] == ["mine"]


def test_an_untrained_and_an_exported_model_are_not_exported(
    vggflow: Command, place: Path, here: Path
) -> None:
    ran = vggflow("export", "builder:keras", "--format", "onnx", "--data", place / "images")
    assert ran.code == 2 and "is not trained" in ran.err
    (here / "x.onnx").write_bytes(b"graph")
    ran = vggflow("export", here / "x.onnx", "--format", "litert", "--data", place / "images")
    assert ran.code == 2 and "is an exported graph" in ran.err


CHECK = Comparison(("keras", "onnx"), 200, 1e-6, "", 0, 200, (0.95, 0.95), (1.0, 1.0))


@pytest.mark.parametrize(
    ("changed", "int8", "said"),
    [
        ({}, False, ""),
        ({"largest_difference": 2e-5}, False, "probabilities differ by 2e-05"),
        ({"largest_difference": float("nan")}, False, "probabilities differ by nan"),
        ({"largest_difference": float("nan")}, True, "probabilities differ by nan"),
        ({"labels_differ": 1}, False, "1 labels differ"),
        ({"largest_difference": 0.3, "labels_differ": 5, "accuracy": (0.95, 0.94)}, True, ""),
        ({"labels_differ": 6}, True, "answers 3.0% of the images otherwise"),
        ({"accuracy": (0.95, 0.935)}, True, "loses 1.5% of accuracy"),
        ({"accuracy": (0.95, 0.96)}, True, ""),
        ({"accuracy": None}, True, ""),
    ],
)
def test_what_is_good_enough(changed: dict, int8: bool, said: str) -> None:
    from dataclasses import replace

    refusal = export_check.refusal(replace(CHECK, **changed), int8=int8)
    assert said in refusal if said else not refusal
