"""True float32 where a model is used: GPUs else compute "float32" with 10 bits of fraction, which is called TF32."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_float32() -> Iterator[None]:
    """Within the block, Keras multiplies float32 with all its 23 bits of fraction; after it, as before.

    On processors nothing changes. On a GPU it costs time, and the answers are those of every other machine to about
    1e-6, where TF32 moves probabilities by up to 2e-3. With TensorFlow it holds for all threads of the process.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
        return
    import tensorflow as tf

    precision = tf.config.experimental
    before = precision.tensor_float_32_execution_enabled()
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        precision.enable_tensor_float_32_execution(before)
