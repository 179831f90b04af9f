"""What the network sees in an image: the strongest feature maps of each block, and Grad-CAM."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggflow.data import images
from vggflow.errors import UsageError
from vggflow.models import heads, vgg16
from vggflow.models.files import ModelInfo
from vggflow.models.probabilities import class_probabilities

Map = NDArray[np.float64]
Pixels = NDArray[np.generic]

MAPS_PER_BLOCK = 8
# A heat map has at least as many places a side. Block 5 has 14 at 224 px; at 64 px it has 4, each of which
# sees all of the image: hiding the hottest quarter of 200 photographs cost the answer 0.12, at block 4 0.20.
HEAT_PLACES = 7
# The image is drawn larger than the network sees it, with the same geometry.
SHOWN_PX = 448


@dataclass(frozen=True)
class Explanation:
    """One image as the network sees it.

    Attributes:
        picture: The image, uint8 (448, 448, 3), cut or stretched as for the network.
        class_names: All classes.
        probabilities: One for each class.
        heat: Grad-CAM of the predicted class, (h, w), 0 to 1.
        blocks: The last convolution of each block.
    """

    picture: NDArray[np.uint8]
    class_names: tuple[str, ...]
    probabilities: Map
    heat: Map
    blocks: dict[str, "Block"]

    @property
    def predicted(self) -> int:
        """The position of the most probable class."""
        return int(self.probabilities.argmax())


@dataclass(frozen=True)
class Block:
    """The strongest maps (count, h, w) of a layer with `map_count` of them, the strongest first."""

    map_count: int
    strongest: Map


def explain(model: keras.Model, info: ModelInfo, image: Image.Image) -> Explanation:
    """Looks at one image with a model from `models.files.load`."""
    resize = cast("images.Resize", info.resize)
    pixels = images.pixels(image, info.image_size_px, resize)
    outputs = _outputs(model, pixels)
    probabilities = class_probabilities(outputs[heads.PROBABILITIES])[0]
    return Explanation(
        picture=images.pixels(image, SHOWN_PX, resize),
        class_names=info.class_names,
        probabilities=probabilities,
        heat=grad_cam(model, pixels, int(probabilities.argmax())),
        blocks={
            f"block{number}": _strongest(outputs[f"block{number}_conv{count}"][0])
            for number, count in enumerate(vgg16.CONVOLUTIONS, start=1)
        },
    )


def _strongest(maps: Map) -> Block:
    """Ranks by what a map tells apart in the image: one that is bright everywhere tells nothing."""
    order = np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:MAPS_PER_BLOCK]
    return Block(maps.shape[-1], np.moveaxis(maps[..., order], -1, 0))


def grad_cam(model: keras.Model, pixels: Pixels, class_index: int) -> Map:
    """Where the evidence for a class lies, (h, w) of `heat_layer`, 0 to 1; all 0 if there is none.

    Source: Selvaraju et al., "Grad-CAM", arXiv:1610.02391, equations 1 and 2. The score is the logit; with
    one sigmoid unit it is, for the first class, the negative logit.

    Args:
        model: A network that `models.builder` made.
        pixels: RGB 0–255, (S, S, 3).
        class_index: The class to look for.

    Raises:
        UsageError: the Keras backend is neither TensorFlow nor JAX.
        ValueError: there is no such class.
    """
    before, behind = _cut(model, heat_layer(model))
    features = _run(before, keras.ops.convert_to_tensor(pixels[None], "float32"))
    units = model.get_layer(heads.PREDICTIONS).units
    # One sigmoid unit stands for two classes.
    if not 0 <= class_index < max(2, units):
        raise ValueError(f"expected a class from 0 to {max(2, units) - 1}, got {class_index}")

    def score(values: Any) -> Any:
        logits = _run(behind, values)
        if units > 1:
            return logits[0, class_index]
        return logits[0, 0] if class_index == 1 else -logits[0, 0]

    gradient = np.asarray(keras.ops.convert_to_numpy(_gradient(score, features)), np.float64)
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((weights * keras.ops.convert_to_numpy(features)).sum(axis=-1)[0], 0.0)
    return np.asarray(heat / heat.max() if heat.max() > 0 else heat)


def heat_layer(model: keras.Model) -> str:
    """The last convolution whose maps still have places enough to say where something is."""
    layers = [model.get_layer(name) for name in vgg16.CONVOLUTION_NAMES]
    large = [layer.name for layer in layers if layer.output.shape[1] >= HEAT_PLACES]
    return str(large[-1])


def _cut(model: keras.Model, name: str) -> tuple[list[Any], list[Any]]:
    """The operations after the input through `name`, and those behind it through the logits."""
    # A chain, as VGG16 is: each operation takes what the one before gives. The first is the input.
    operations = model.operations[1:]
    names = [operation.name for operation in operations]
    first, last = names.index(name) + 1, names.index(heads.PREDICTIONS) + 1
    return operations[:first], operations[first:last]


def _run(operations: list[Any], values: Any) -> Any:
    """One operation after the other: it makes no new model, which would hang on to the old one."""
    for operation in operations:
        values = operation(values)
    return values


def _outputs(model: keras.Model, pixels: Pixels) -> dict[str, Map]:
    outputs: dict[str, Map] = {}
    values = keras.ops.convert_to_tensor(pixels[None], "float32")
    # All of them, as float64: at 224 px 15 million numbers, 120 MB.
    for operation in model.operations[1:]:
        values = operation(values)
        outputs[operation.name] = np.asarray(keras.ops.convert_to_numpy(values), np.float64)
    return outputs


def _gradient(function: Callable[[Any], Any], at: Any) -> Any:
    """The gradient of a number, which Keras itself does not offer."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            # A tape watches variables by itself, and no tensors.
            tape.watch(at)
            value = function(at)
        return tape.gradient(value, at)
    if backend == "jax":
        import jax

        return jax.grad(function)(at)
    raise UsageError(f"KERAS_BACKEND is {backend}, Grad-CAM needs tensorflow or jax: set it to one of them")
