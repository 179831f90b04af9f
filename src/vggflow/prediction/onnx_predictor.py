"""Any model file, ready to be asked: a `.keras` file through Keras, an ONNX graph through ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggflow.data.parallel import usable_cores
from vggflow.models import onnx_files, start_keras
from vggflow.prediction.keras_features import FeaturePredictor
from vggflow.prediction.predictor import Predictor


class OnnxPredictor(Predictor):
    """A graph that was exported from a model: its answers are the model's to about 1e-6, without Keras."""

    needs_keras = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._network, self.info = onnx_files.load(path, usable_cores())

    def _outputs(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        graph: onnx_files.Graph = self._network
        return graph.with_features(batch) if graph.has_features else (graph.predict_on_batch(batch), None)


def is_graph(path: Path) -> bool:
    """Whether a file is an exported graph, by its name."""
    return path.suffix.lower() == onnx_files.SUFFIX


def ready(path: Path, backend: Callable[[], str | None]) -> Predictor:
    """The predictor of a model file.

    Args:
        path: A `.keras` or `.onnx` file.
        backend: What Keras computes with, asked for a `.keras` file only, for which Keras is started.

    Raises:
        ModelFileError: the file is missing, damaged or foreign.
    """
    if is_graph(path):
        return OnnxPredictor(path)
    predictor = FeaturePredictor(path)
    # Only now: a file that is no model is told before the seconds that this takes.
    start_keras.start(backend())
    return predictor
