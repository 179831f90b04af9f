"""The most that a device was seen to do: products of large matrices, which need little of its memory's speed."""

import time
from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np

PRODUCTS, TRIES = 8, 3


def multiply_adds_a_second(dtype: str, side: int) -> float:
    """Of the best of some tries, with square matrices of so many rows, on the first device of Keras' backend."""
    generator = np.random.default_rng(0)
    factor = generator.normal(0, side**-0.5, (side, side)).astype(np.float32)
    left = right = keras.ops.cast(factor, dtype)

    def multiply(first: Any, second: Any) -> Any:
        for _ in range(PRODUCTS):
            first = keras.ops.matmul(first, second)
        return keras.ops.sum(first)

    run = _compiled(multiply)
    seconds = []
    for _ in range(TRIES + 1):  # the first one compiles
        started = time.perf_counter()
        float(run(left, right))  # the number is here only once the device is done
        seconds.append(time.perf_counter() - started)
    return PRODUCTS * float(side) ** 3 / min(seconds)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if keras.backend.backend() == "jax":
        import jax

        return cast("Callable[..., Any]", jax.jit(function))
    import tensorflow as tf

    return cast("Callable[..., Any]", tf.function(function))
