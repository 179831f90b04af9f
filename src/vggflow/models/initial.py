"""Initial weights: the same for a seed in either builder and on every backend."""

from collections.abc import Iterable
from zlib import crc32

import keras
import numpy as np

from vggflow.models.preprocessing import Preprocessing, root_mean_square

FIRST_LAYER = "block1_conv1"


def initialise(layers: Iterable[keras.layers.Layer], seed: int, preprocessing: Preprocessing) -> None:
    """He-normal kernels (He et al., arXiv:1502.01852) and biases of 0.

    Unlike VGG's own Gaussian of 0.01 this learns from scratch without a shallower network trained first. The
    first layer's kernel reckons with the size of a pixel, so activations start near 1 rather than near 64.
    """
    for layer in layers:
        if layer.weights:
            scale = 1.0 / root_mean_square(preprocessing) if layer.name == FIRST_LAYER else 1.0
            layer.kernel.assign(scale * _he_normal(layer.kernel.shape, seed, layer.name))
            layer.bias.assign(np.zeros(layer.bias.shape, np.float32))


def _he_normal(shape: tuple[int, ...], seed: int, name: str) -> np.ndarray:
    # By name, so that no other layer matters; Python's own `hash` differs from process to process.
    generator = np.random.default_rng([seed, crc32(name.encode())])
    fan_in = int(np.prod(shape[:-1]))
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2.0 / fan_in))
