"""The exported graph of a model, which answers as it does: made, kept for `register`, and held against the model.

    python -m vggflow.prediction.exported_graph MODEL.keras OUT.onnx

Keras exports on TensorFlow. Where that is at work already the graph is made there, else by this program.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vggflow import files
from vggflow.data.contents import Contents
from vggflow.errors import VggflowError
from vggflow.models import onnx_files, start_keras
from vggflow.prediction import table
from vggflow.prediction.onnx_predictor import OnnxPredictor
from vggflow.prediction.predictor import Predictor, joined
from vggflow.processes.stage import ending_with_parents, exit_fast, last_error_line, run_module

# Rounding in another order moves probabilities by less than 1e-6; a layer that is computed otherwise, by much more.
TOLERANCE = 1e-5
# Images that both answer: a graph that answers these alike answers the next alike.
MOST_IMAGES = 64


@dataclass(frozen=True)
class Agreement:
    """How the graph's probabilities differ from the model's: on how many images, and by how much at most."""

    images: int
    difference: float


def keep(predictor: Predictor, model: Path, folder: Path) -> Path:
    """Writes the graph of a model into a folder of graphs that belong to models of before; returns where.

    Args:
        predictor: The model, on TensorFlow.
        model: Its file, by whose digest the graph is found again.
        folder: Where no other graph is kept for long.
    """
    path = _place(model, folder)
    write(predictor, path)
    for other in folder.glob("*.onnx"):
        if other != path:
            other.unlink(missing_ok=True)
    return path


def kept(model: Path, folder: Path) -> Path:
    """The graph of a model that `keep` wrote, else one that is made now, in a process of its own.

    Raises:
        VggflowError: the model can't be exported.
    """
    path = _place(model, folder)
    if not path.is_file():
        done = run_module("vggflow.prediction.exported_graph", model, path)
        if done.returncode != 0:
            raise VggflowError(f"{model.name} has no exported graph: {last_error_line(done)}")
    return path


def _place(model: Path, folder: Path) -> Path:
    return folder / f"{files.sha256(model)}{onnx_files.SUFFIX}"


def write(predictor: Predictor, graph: Path) -> None:
    """Writes the graph of a model that is loaded on TensorFlow.

    Raises:
        ModelFileError: the model is damaged, or answers with something else than numbers.
    """
    from vggflow.models import cut

    # Keras exports no network that has not answered yet, neither this one nor the one with two outputs.
    predictor.answer_once()
    network = cut.with_features(predictor.network) or predictor.network
    size = predictor.info.image_size_px
    network.predict_on_batch(np.zeros((1, size, size, 3), np.uint8))
    onnx_files.save(network, predictor.info, graph)


def compare(
    graph: Path, predictions: pd.DataFrame, data_folder: Path, most_images: int = MOST_IMAGES
) -> Agreement:
    """Holds a graph against what its model answered in its evaluation.

    Args:
        graph: The `.onnx` file.
        predictions: The predictions table of the model.
        data_folder: Where its paths start; an image that is gone or another by now is left out.
        most_images: How many both answer, at most.

    Raises:
        VggflowError: the graph answers otherwise.
    """
    # Spread over all of them, since a table is sorted by class.
    rows = np.linspace(0, len(predictions) - 1, min(most_images, len(predictions))).astype(int)
    chosen = predictions.iloc[rows]
    predictor = OnnxPredictor(graph)
    answers = joined(list(predictor.answers(Contents(data_folder).places(chosen["path"]))))
    same = np.array(answers.sha256, dtype=object) == chosen["sha256"].to_numpy(dtype=object)
    found = answers.probabilities[same]
    expected = table.probabilities(chosen, predictor.info.class_names)[same]
    difference = float(np.abs(found - expected).max(initial=0.0))
    # What is no number is no agreement either.
    if not difference <= TOLERANCE:
        raise VggflowError(
            f"the exported graph answers otherwise than the model did in its evaluation: probabilities differ by "
            f"{difference:.2g}, at most {TOLERANCE:g} expected"
        )
    return Agreement(int(same.sum()), difference)


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit code and prints errors as one line."""
    parser = argparse.ArgumentParser(
        prog="python -m vggflow.prediction.exported_graph", description="Exports a model as an ONNX graph."
    )
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("graph", type=Path, help="the .onnx file to write")
    options = parser.parse_args(arguments)
    # Not on a GPU, where a training may be at work; before TensorFlow starts.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ[start_keras.BACKEND] = "tensorflow"
    start_keras.start("tensorflow")
    try:
        write(Predictor(options.model), options.graph)
    except VggflowError as error:
        print(error, file=sys.stderr)  # noqa: T201 (a program's own output)
        return error.exit_code
    return 0


if __name__ == "__main__":
    with ending_with_parents():
        exit_fast(main())
