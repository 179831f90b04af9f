"""Mixed precision: layers before the output compute with 16 bits, weights and output stay in 32."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from vggflow.models import heads, preprocessing
from vggflow.training.hardware import FULL_PRECISION

# 16 bits cut digits of pixels on their way in, and of probabilities close to 0 and 1.
ALWAYS_FULL = (preprocessing.PREPROCESSING, heads.PREDICTIONS, heads.TEMPERATURE, heads.PROBABILITIES)


@contextmanager
def computing_in(model: keras.Model, policy: str) -> Iterator[None]:
    """Within the block, networks cut from the model compute under the policy; after it, in float32 again.

    So the model file never depends on the precision of the training: it always predicts in float32.
    """
    _set(model, policy)
    try:
        yield
    finally:
        _set(model, FULL_PRECISION)


def _set(model: keras.Model, policy: str) -> None:
    for layer in model.layers:
        if layer.name not in ALWAYS_FULL and not isinstance(layer, keras.layers.InputLayer):
            layer.dtype_policy = policy


def optimizer(inner: keras.optimizers.Optimizer, policy: str) -> keras.optimizers.Optimizer:
    """The optimizer, with a loss scale where gradients would vanish in float16."""
    return keras.optimizers.LossScaleOptimizer(inner) if policy == "mixed_float16" else inner
