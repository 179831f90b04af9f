"""An epoch as one compiled program on rows in memory: a network, an optimizer, and any rate, order and batch size.

`Learner` hands Keras one batch after the other, which takes some milliseconds each; a step of a last layer takes a
tenth of one. The steps are the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.models.finite import are_finite
from vggflow.search.rows_in_memory import RowsInMemory
from vggflow.training import checkpoints

Floats = NDArray[np.float32]
Sums = tuple[float, float]


class CompiledEpoch:
    """Trains a network on rows in memory, an epoch at a call, and forgets it all at `reset`."""

    def __init__(
        self, network: keras.Model, optimizer: keras.optimizers.Optimizer, rows: RowsInMemory
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._rows = rows
        optimizer.build(network.trainable_variables)
        self._start = checkpoints.state(network.layers)
        self._fresh = checkpoints.optimizer_state(optimizer)
        make = _with_jax if keras.backend.backend() == "jax" else _with_tensorflow
        self._steps, self._outputs = make(network, optimizer, rows)

    def reset(self) -> None:
        """Puts weights, random state and optimizer back to where they were at first."""
        checkpoints.restore(self._network.layers, self._start)
        checkpoints.restore_optimizer(self._optimizer, self._fresh)

    def run(
        self, order: NDArray[np.int64], batch_size: int, rates: Sequence[float], weights: Floats
    ) -> tuple[float, float]:
        """One epoch: means of loss and accuracy over its steps.

        Args:
            order: Numbers of the rows of train, as they are to come.
            rates: The learning rate of each step.
            weights: Of each row of train in the loss.
        """
        numbers, given = order.astype(np.int32), np.asarray(rates, np.float32)
        whole = len(numbers) // batch_size
        loss, right = self._steps(
            numbers[: whole * batch_size].reshape(whole, batch_size), given[:whole], weights
        )
        if len(numbers) > whole * batch_size:
            last = self._steps(numbers[np.newaxis, whole * batch_size :], given[whole:], weights)
            loss, right = loss + last[0], right + last[1]
        return loss / len(numbers), right / len(numbers)

    def is_finite(self) -> bool:
        """Whether all that was learnt is numbers: losses can be finite where a weight is not."""
        return are_finite([*self._network.variables, *self._optimizer.variables])

    def answers(self) -> NDArray[np.float32]:
        """What the network says of each row of valid."""
        return np.asarray(self._outputs())


Steps = Callable[[NDArray[np.int32], Floats, Floats], Sums]
Made = tuple[Steps, Callable[[], Any]]


def _loss(network: keras.Model) -> tuple[keras.losses.Loss, Callable[[Any, Any], Any]]:
    if network.outputs[0].shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(), keras.metrics.binary_accuracy
    return keras.losses.CategoricalCrossentropy(), keras.metrics.categorical_accuracy


def _with_tensorflow(network: keras.Model, optimizer: keras.optimizers.Optimizer, rows: RowsInMemory) -> Made:
    import tensorflow as tf

    loss_of, is_right = _loss(network)
    train, targets, valid = map(tf.constant, (rows.train, rows.targets, rows.valid))

    # Open shapes: another batch size is no other program.
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None], tf.float32),
        ]
    )
    def steps(batches: Any, rates: Any, weights: Any) -> Any:
        total, right = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(batches)[0]):
            numbers = batches[step]
            optimizer.learning_rate.assign(rates[step])
            given, wanted, weight = (tf.gather(each, numbers) for each in (train, targets, weights))
            with tf.GradientTape() as tape:
                answers = network(given, training=True)
                loss = loss_of(wanted, answers, sample_weight=weight)
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss * tf.cast(tf.size(numbers), tf.float32)
            right += tf.reduce_sum(tf.cast(is_right(wanted, answers), tf.float32))
        return total, right

    outputs = tf.function(lambda: network(valid, training=False))

    def run(batches: NDArray[np.int32], rates: Floats, weights: Floats) -> Sums:
        total, right = steps(batches, rates, weights)
        return float(total), float(right)

    return run, outputs


def _with_jax(network: keras.Model, optimizer: keras.optimizers.Optimizer, rows: RowsInMemory) -> Made:
    import jax

    loss_of, is_right = _loss(network)
    train, targets, valid = map(jax.numpy.asarray, (rows.train, rows.targets, rows.valid))
    rate_at = next(place for place, each in enumerate(optimizer.variables) if each is optimizer.learning_rate)

    def look(trained: Any, others: Any, given: Any, wanted: Any, weight: Any) -> Any:
        answers, others = network.stateless_call(trained, others, given, training=True)
        return loss_of(wanted, answers, sample_weight=weight), (answers, others)

    def step(state: Any, given: Any) -> Any:
        trained, others, moments = state
        numbers, rate, weight = given
        wanted = targets[numbers]
        (loss, (answers, others)), gradients = jax.value_and_grad(look, has_aux=True)(
            trained, others, train[numbers], wanted, weight
        )
        moments = [rate if place == rate_at else each for place, each in enumerate(moments)]
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        right = is_right(wanted, answers).sum()
        return (trained, others, moments), (loss * len(numbers), right)

    @jax.jit  # type: ignore[untyped-decorator]
    def steps(state: Any, batches: Any, rates: Any, weights: Any) -> Any:
        state, (losses, right) = jax.lax.scan(step, state, (batches, rates, weights[batches]))
        return state, losses.sum(), right.sum()

    @jax.jit  # type: ignore[untyped-decorator]
    def outputs(trained: Any, others: Any) -> Any:
        return network.stateless_call(trained, others, valid, training=False)[0]

    variables = network.trainable_variables, network.non_trainable_variables, optimizer.variables

    def run(batches: NDArray[np.int32], rates: Floats, weights: Floats) -> Sums:
        if not len(batches):
            return 0.0, 0.0
        state = tuple([each.value for each in some] for some in variables)
        state, total, right = steps(state, batches, rates, weights)
        for some, values in zip(variables, state, strict=True):
            for each, value in zip(some, values, strict=True):
                each.assign(value)
        return float(total), float(right)

    return run, lambda: outputs(*([each.value for each in some] for some in variables[:2]))
