"""Networks as ONNX graphs: what they were made for inside, and answers on a processor within a second of the start.

ONNX Runtime computes, and imports neither Keras nor TensorFlow. A graph holds operators and numbers, no code; all of it
is in the one file, which is read as bytes, so that it can't name other files of the machine either.
"""

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggflow.files import replacing
from vggflow.models.files import INFO_MEMBER, ModelFileError, ModelInfo

if TYPE_CHECKING:
    import keras

SUFFIX = ".onnx"
# Of a graph's two outputs; one of before there were features has the first alone, under whatever name.
PROBABILITIES, FEATURES = "probabilities", "features"
# Of ONNX Runtime's levels: errors, which come as exceptions as well, and nothing that is only worth a look.
ONLY_FATAL = 4


class Graph:
    """A network as ONNX Runtime runs it on a processor, in float32."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        names = [output.name for output in session.get_outputs()]
        self._probabilities = PROBABILITIES if PROBABILITIES in names else names[0]
        self.has_features = FEATURES in names

    def predict_on_batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the Keras network of this name gives, shape (N, K), for pixels of shape (N, S, S, 3)."""
        return self._run([self._probabilities], pixels)[0]

    def with_features(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same, and the pooled features of its last convolutions, shape (N, F); where `has_features` alone."""
        probabilities, features = self._run([self._probabilities, FEATURES], pixels)
        return probabilities, features

    def _run(self, names: list[str], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = self._session.run(names, {self._input: pixels.astype(np.float32)})
        return found


def save(network: "keras.Model", info: ModelInfo, path: Path) -> None:
    """Writes a network that has answered at least once, whole or not at all; on TensorFlow only."""
    import onnx

    # It says which versions it takes, at a level that is for trouble.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Keras, about NumPy
        made = Path(folder) / f"graph{SUFFIX}"
        network.export(str(made), format="onnx", verbose=False)
        graph = onnx.load(made)
    onnx.helper.set_model_props(graph, {INFO_MEMBER: json.dumps(info.to_dict())})
    onnx.checker.check_model(graph)
    with replacing(path) as beside:
        onnx.save(graph, beside)


def copy_info(source: Path, target: Path) -> None:
    """What a graph was made for, from the one that it was made of: a tool that rewrites graphs leaves it out."""
    import onnx

    told = {each.key: each.value for each in onnx.load(source).metadata_props}
    graph = onnx.load(target)
    onnx.helper.set_model_props(graph, {INFO_MEMBER: told[INFO_MEMBER]})
    onnx.save(graph, target)


def load(path: Path, cores: int) -> tuple[Graph, ModelInfo]:
    """A graph that `save` wrote, and what it was made for.

    Args:
        path: The file.
        cores: How many of them compute.

    Raises:
        ModelFileError: the file is missing, damaged or was not written by `save`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"no model file {path}: train one, or name another") from None
    except OSError as error:
        raise ModelFileError(f"{path} can't be read ({error.strerror or error}): name another") from error
    session = _session(content, path, cores)
    told = session.get_modelmeta().custom_metadata_map.get(INFO_MEMBER)
    if told is None:
        raise ModelFileError(f"{path} was not written by vggflow: an ONNX graph with {INFO_MEMBER} expected")
    try:
        return Graph(session), ModelInfo.from_dict(json.loads(told))
    except (ModelFileError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: {error}") from None


def _session(content: bytes, path: Path, cores: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_FATAL
    # Its own choice is all that the machine has, which may be more than this process may use.
    options.intra_op_num_threads = cores
    # Its threads would go on asking for work between two batches, on the cores that decode the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its C++ code, which has no class in common but this one
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFileError(
            f"{path} is damaged or no ONNX graph: {first_line[:200]}; make it again"
        ) from error
