"""The forms in which a model leaves vggflow: how each is written, in float32 or INT8, and how it is asked.

All of them take what the Keras model takes: raw RGB pixels, 0 to 255, as float32, shape (N, S, S, 3), with the
preprocessing inside. Nothing is downloaded, and no toolkit reports home.
"""

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggflow.data.parallel import usable_cores
from vggflow.errors import UsageError
from vggflow.models import onnx_files
from vggflow.models.files import ModelInfo

if TYPE_CHECKING:
    import keras

Pixels = NDArray[np.uint8]
# From pixels (N, S, S, 3) to what the network gives, (N, K) or (N, 1).
Ask = Callable[[Pixels], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """What is written.

    Attributes:
        network: On TensorFlow; it has answered once.
        info: What it was made for.
        calibration: Images (N, S, S, 3) over which an INT8 network measures its ranges; None for float32.
    """

    network: "keras.Model"
    info: ModelInfo
    calibration: Pixels | None = None


@dataclass(frozen=True)
class Format:
    """How one form is written, and how it is asked."""

    write: Callable[[Exported, Path], None]
    load: Callable[[Path], Ask]


def write_onnx(model: Exported, path: Path) -> None:
    """A graph for ONNX Runtime, with the classes in its metadata: `vggflow predict --model` takes it."""
    if model.calibration is None:
        onnx_files.save(model.network, model.info, path)
        return
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        plain, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        onnx_files.save(model.network, model.info, plain)
        _quantise(plain, prepared, made, model.calibration)
        onnx_files.copy_info(plain, made)
        shutil.move(made, path)


def _quantise(plain: Path, prepared: Path, made: Path, calibration: Pixels) -> None:
    from onnxruntime import quantization

    with _only_errors():
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            made,
            _Calibration(prepared, calibration),
            # Pairs of operators that every runtime understands; OpenVINO reads them too.
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


@contextmanager
def _only_errors() -> Iterator[None]:
    """ONNX Runtime advises by the root logger what is done here, at a level that is for trouble."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _Calibration:
    """Images one at a time, as ONNX Runtime's `CalibrationDataReader` hands them out."""

    def __init__(self, graph: Path, images: Pixels) -> None:
        import onnx

        self._name = onnx.load(graph, load_external_data=False).graph.input[0].name
        self._images: Iterator[Pixels] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next one; None after the last."""
        image = next(self._images, None)
        return None if image is None else {self._name: image[np.newaxis].astype(np.float32)}


def load_onnx(path: Path) -> Ask:
    """On a processor."""
    graph, _ = onnx_files.load(path, usable_cores())
    return graph.predict_on_batch


def write_litert(model: Exported, path: Path) -> None:
    """A `.tflite` file for LiteRT; INT8 inside, float32 at its ends."""
    options: dict[str, Any] = {}
    if model.calibration is not None:
        import tensorflow as tf

        images = model.calibration
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([image[np.newaxis].astype(np.float32)] for image in images),
        }
    with _silence():
        model.network.export(str(path), format="litert", verbose=False, **options)


def load_litert(path: Path) -> Ask:
    """By TensorFlow's own interpreter, whose successor takes the same files."""
    import tensorflow as tf

    with _silence():
        interpreter = tf.lite.Interpreter(str(path), num_threads=usable_cores())
        interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def ask(pixels: Pixels) -> NDArray[np.float32]:
        interpreter.resize_tensor_input(taken["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], pixels.astype(np.float32))
        interpreter.invoke()
        return np.array(interpreter.get_tensor(given["index"]))

    return ask


@contextmanager
def _silence() -> Iterator[None]:
    """TensorFlow warns that LiteRT is another package by now, and its C++ code writes past Python to stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def write_openvino(model: Exported, path: Path) -> None:
    """A folder with `model.xml` and `model.bin`, for OpenVINO."""
    openvino = _openvino()
    path.mkdir()
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        graph = Path(folder) / "model.onnx"
        write_onnx(model, graph)
        # By default weights lose half of their bits here.
        openvino.save_model(openvino.Core().read_model(graph), path / "model.xml", compress_to_fp16=False)


def load_openvino(path: Path) -> Ask:
    """In float32: its default on many processors is bfloat16, whose answers differ by 0.025."""
    openvino = _openvino()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", exact)
    return lambda pixels: np.asarray(compiled(pixels.astype(np.float32))[compiled.output(0)])


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise UsageError(
            "--format openvino needs OpenVINO, which is not installed: pip install 'vggflow[openvino]'"
        ) from None
    return openvino


def write_savedmodel(model: Exported, path: Path) -> None:
    """A folder as TensorFlow Serving takes it."""
    if model.calibration is not None:
        raise UsageError(
            "a SavedModel has no INT8: choose --format onnx, litert or openvino, or leave --int8 out"
        )
    model.network.export(str(path), format="tf_saved_model", verbose=False)


def load_savedmodel(path: Path) -> Ask:
    """By TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def ask(pixels: Pixels) -> NDArray[np.float32]:
        return np.asarray(loaded.serve(tf.constant(pixels, tf.float32)))

    return ask


FORMATS = {
    "onnx": Format(write_onnx, load_onnx),
    "litert": Format(write_litert, load_litert),
    "openvino": Format(write_openvino, load_openvino),
    "savedmodel": Format(write_savedmodel, load_savedmodel),
}
