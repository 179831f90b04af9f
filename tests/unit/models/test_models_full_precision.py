"""A model in use computes in true float32, whatever the device would rather do."""

import keras
import numpy as np
import pytest

from vggflow.models.full_precision import full_float32


def precision() -> object:
    """What the backend would compute the next product with."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


EXACT = "highest" if keras.backend.backend() == "jax" else False


def test_within_the_block_products_are_exact_and_after_it_as_before():
    before = precision()
    with full_float32():
        assert precision() == EXACT
    assert precision() == before != EXACT


def test_an_error_within_the_block_leaves_nothing_changed():
    before = precision()
    with pytest.raises(KeyError), full_float32():
        raise KeyError("x")
    assert precision() == before


def test_a_network_answers_in_it():
    inputs = keras.Input((4,))

    class Asking(keras.layers.Layer):
        """Notes the precision of the moment at which it computes or is compiled."""

        def call(self, values):
            seen.append(precision())
            return values * 2.0

    seen: list[object] = []
    model = keras.Model(inputs, Asking()(inputs))
    model.run_eagerly = True
    seen.clear()
    with full_float32():
        model.predict_on_batch(np.ones((1, 4), np.float32))
    assert seen and set(seen) == {EXACT}
