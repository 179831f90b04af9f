"""Exported graphs: the answers of the model they were made from, without Keras; and files that are none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from vggflow import files
from vggflow.errors import VggflowError
from vggflow.models.files import ModelFileError, read_info
from vggflow.prediction import exported_graph, table
from vggflow.prediction.keras_features import FeaturePredictor
from vggflow.prediction.onnx_predictor import OnnxPredictor, ready
from vggflow.prediction.predictor import Predictor

IMPORTS = """
import json, sys
from pathlib import Path
from vggflow.prediction.onnx_predictor import ready
predictor = ready(Path(sys.argv[1]), lambda: None)
answers = predictor.predict([Path(each) for each in sys.argv[2:]])
heavy = [name for name in ("keras", "tensorflow", "mlflow", "jax", "pandas") if name in sys.modules]
print(json.dumps([answers.tolist(), heavy]))
"""


@pytest.fixture(scope="module", params=["two", "three"])
def exported(
    request: pytest.FixtureRequest,
    model_path: Path,
    three_class_model_path: Path,
    images: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """A model and its graph: with one output, the sigmoid of the second class, and with three."""
    model = model_path if request.param == "two" else three_class_model_path
    graph = tmp_path_factory.mktemp("graph") / "model.onnx"
    exported_graph.write(Predictor(model), graph)
    return model, graph


def _recorded(model: Path, images: list[Path]) -> pd.DataFrame:
    """What the evaluation of a model leaves."""
    predictor = Predictor(model)
    shown = pd.DataFrame(
        {
            "path": [path.name for path in images],
            "sha256": [files.sha256(path) for path in images],
            "class_name": "cats",
        }
    )
    return table.make(shown, predictor.predict(images), predictor.info.class_names)


def test_a_graph_answers_as_its_model_does_and_knows_what_that_knows(
    exported: tuple[Path, Path], images: list[Path]
) -> None:
    model, graph = exported
    expected, found = Predictor(model).predict(images), OnnxPredictor(graph).predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert list(found.argmax(axis=1)) == list(expected.argmax(axis=1))
    assert OnnxPredictor(graph).info == read_info(model)
    # One at a time, and in batches of another size.
    for size in (1, 2, 5):
        np.testing.assert_allclose(OnnxPredictor(graph).predict(images, size), expected, atol=1e-6)


def test_a_graph_and_a_model_that_gives_features_give_what_each_block_gives_on_average(
    exported: tuple[Path, Path], images: list[Path]
) -> None:
    model, graph = exported
    network = Predictor(model).network
    ends = [
        layer.output for layer in network.layers if layer.name.endswith("_pool") and "block" in layer.name
    ]
    pixels = [Predictor(model).decode(path).pixels for path in images]
    maps = keras.Model(network.inputs[0], ends).predict_on_batch(
        np.stack([each for each in pixels if each is not None])
    )
    expected = np.concatenate([np.asarray(found).mean(axis=(1, 2)) for found in maps], axis=1)
    assert len(maps) == 5
    for asked in (OnnxPredictor(graph), FeaturePredictor(model)):
        (answers,) = asked.answers(images)
        assert answers.features is not None
        np.testing.assert_allclose(answers.features, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answers.probabilities, Predictor(model).predict(images), atol=1e-6)


def test_a_graph_is_asked_without_keras_tensorflow_and_mlflow(
    exported: tuple[Path, Path], images: list[Path]
) -> None:
    model, graph = exported
    command = [sys.executable, "-c", IMPORTS, str(graph), *map(str, images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers, heavy = json.loads(done.stdout)
    np.testing.assert_allclose(answers, Predictor(model).predict(images), atol=1e-6)
    assert (heavy, done.stderr) == ([], "")


def test_a_graph_is_held_against_the_evaluation_of_its_model(
    exported: tuple[Path, Path], images: list[Path], tmp_path: Path
) -> None:
    model, graph = exported
    recorded = _recorded(model, images)
    agreement = exported_graph.compare(graph, recorded, images[0].parent)
    assert agreement.images == len(images)
    assert 0.0 <= agreement.difference < 1e-6
    # What is gone, or another picture by now, says nothing.
    shutil.copyfile(images[0], tmp_path / images[0].name)
    shutil.copyfile(images[0], tmp_path / images[1].name)
    assert exported_graph.compare(graph, recorded, tmp_path).images == 1


def test_a_graph_that_answers_otherwise_is_refused(
    exported: tuple[Path, Path], images: list[Path], tmp_path: Path
) -> None:
    model, graph = exported
    recorded = _recorded(model, images)
    names = [name for name in recorded.columns if name.startswith("p:")]
    for bent in (
        recorded.assign(**{names[0]: recorded[names[0]] + 2e-5}),
        recorded.assign(**{names[1]: np.nan}),
    ):
        with pytest.raises(VggflowError, match="answers otherwise than the model did in its evaluation"):
            exported_graph.compare(graph, bent, images[0].parent)
    loaded = onnx.load(graph)
    weights = next(each for each in loaded.graph.initializer if len(each.dims) == 4)
    numbers = onnx.numpy_helper.to_array(weights) * 1.01
    weights.CopyFrom(onnx.numpy_helper.from_array(numbers, weights.name))
    onnx.save(loaded, tmp_path / "bent.onnx")
    with pytest.raises(VggflowError, match="probabilities differ by"):
        exported_graph.compare(tmp_path / "bent.onnx", recorded, images[0].parent)


@pytest.mark.slow
def test_a_graph_is_kept_for_its_model_and_made_where_none_is(
    model_path: Path, three_class_model_path: Path, images: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "graphs"
    first = exported_graph.keep(Predictor(model_path), model_path, folder)
    assert exported_graph.kept(model_path, folder) == first
    second = exported_graph.kept(three_class_model_path, folder)
    np.testing.assert_allclose(
        OnnxPredictor(second).predict(images), Predictor(three_class_model_path).predict(images), atol=1e-6
    )
    third = exported_graph.keep(Predictor(three_class_model_path), three_class_model_path, folder)
    assert (third, list(folder.iterdir())) == (second, [second])


@pytest.mark.slow
def test_a_model_that_can_t_be_exported_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(
        VggflowError, match=r"model\.keras has no exported graph: .*no `\.keras` file"
    ) as error:
        exported_graph.kept(tmp_path / "model.keras", tmp_path)
    assert "\n" not in str(error.value)


def _foreign(path: Path, **told: str) -> Path:
    """A graph of somebody else's."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "foreign", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(made, told)
    onnx.save(made, path)
    return path


def test_what_is_no_exported_graph_is_told_in_one_line(exported: tuple[Path, Path], tmp_path: Path) -> None:
    _, graph = exported
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(graph.read_bytes()[:-5000])
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no graph at all")
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    told = {
        tmp_path / "missing.onnx": "no model file",
        tmp_path: "can't be read",
        cut: "damaged or no ONNX graph",
        noise: "damaged or no ONNX graph",
        empty: "damaged or no ONNX graph",
        _foreign(tmp_path / "foreign.onnx"): "was not written by vggflow",
        _foreign(tmp_path / "newer.onnx", **{"vggflow.json": '{"format": 9}'}): "expected 1",
        _foreign(tmp_path / "nested.onnx", **{"vggflow.json": "[" * 100_000}): "nested.onnx",
    }
    for path, word in told.items():
        with pytest.raises(ModelFileError, match=word) as error:
            OnnxPredictor(path)
        assert "\n" not in str(error.value)


def test_a_graph_that_names_another_file_reads_none(exported: tuple[Path, Path], tmp_path: Path) -> None:
    _, graph = exported
    loaded = onnx.load(graph)
    beside = tmp_path / "beside.onnx"
    onnx.save(loaded, beside, save_as_external_data=True, location="secret.bin", size_threshold=0)
    assert (tmp_path / "secret.bin").stat().st_size > 0
    with pytest.raises(ModelFileError, match="damaged or no ONNX graph"):
        OnnxPredictor(beside)


def test_keras_is_started_for_a_keras_file_only(
    exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, graph = exported
    started = []
    monkeypatch.setattr("vggflow.models.start_keras.start", started.append)
    assert isinstance(ready(graph, lambda: pytest.fail("asked for a backend")), OnnxPredictor)
    assert started == []
    assert not isinstance(ready(model, lambda: "tensorflow"), OnnxPredictor)
    assert started == ["tensorflow"]
