"""Training steps on several devices of JAX, of one host or of many: each takes its share of every batch.

What the devices found is added up in their order. JAX's own sum over devices adds up in one order within a process and
in another between processes: four devices of one process and two of each of two ended in other bytes.
"""

import operator
from collections import deque
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.features.batches import Batches, Rows

AXIS = "device"
# Batches of valid that the devices may have before them.
AHEAD = 2
# Far apart, so that no two devices draw alike: 2^32 divided by the golden ratio.
BETWEEN_SEEDS = np.uint32(2654435769)

OnBatch = Callable[[int, dict[str, Any]], None]


class SeveralDevices:
    """A network on a mesh of devices; between epochs its variables hold what was learnt, as ever.

    Args:
        network: Compiled: with its optimizer.
        mesh: JAX's, with one axis: all devices that take part, in their order.
        loss: Mean over the rows that it is given.
        is_right: 1 for each row that is right, else 0.
    """

    def __init__(
        self, network: keras.Model, mesh: Any, loss: Any, is_right: Callable[[Any, Any], Any]
    ) -> None:
        import jax
        from jax.sharding import NamedSharding, PartitionSpec

        self._network, self._mesh = network, mesh
        self._shared = NamedSharding(mesh, PartitionSpec(AXIS))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._own = list(mesh.local_devices)
        devices = list(mesh.devices.flat)
        self._place = devices.index(self._own[0])
        self._count = len(devices)
        over = {"mesh": mesh, "out_specs": PartitionSpec(), "check_vma": False}
        specs = (PartitionSpec(), PartitionSpec(AXIS))
        step = jax.shard_map(self._step(loss, is_right), in_specs=specs, **over)
        self._learn = jax.jit(step, donate_argnums=0)
        self._answer = jax.jit(jax.shard_map(self._answers, in_specs=specs, **over))

    def train(
        self,
        rows: Rows,
        batch_size: int,
        indices: NDArray[np.int64],
        on_batch: OnBatch,
        **given: Any,
    ) -> dict[str, float]:
        """Goes through the rows once, in the order of `indices`, whose number the devices can share.

        Tells of each step with loss and accuracy as means so far, numbers that nobody has waited for; returns the last
        ones.
        """
        share = self._share(indices, batch_size)
        batches = Batches(rows, batch_size // self._count * len(self._own), share, place=self._put, **given)
        variables = self._variables()
        state = ([[self._copied(each.value) for each in some] for some in variables], self._zeros())
        logs: dict[str, Any] = {}
        self._network.stop_training = False
        for number in range(len(batches)):
            state, logs = self._learn(state, batches[number])
            on_batch(number, logs)
            if self._network.stop_training:
                break
        for some, values in zip(variables, state[0], strict=True):
            for variable, value in zip(some, values, strict=True):
                variable.assign(value.addressable_data(0))
        return {name: float(value) for name, value in logs.items()}

    def predict_in_parts(self, rows: Rows, batch_size: int) -> Iterator[NDArray[np.float32]]:
        """The network's outputs for all rows, a batch after the other: in every process those of all devices."""
        # Whole batches: another number of rows would be another program.
        numbers = np.arange(-(-len(rows) // batch_size) * batch_size).clip(max=len(rows) - 1)
        batches = Batches(
            rows,
            batch_size // self._count * len(self._own),
            self._share(numbers, batch_size),
            place=self._put,
        )
        left = len(rows)
        for outputs in self._outputs(batches):
            yield np.asarray(outputs)[:left]
            left -= len(outputs)

    def _outputs(self, batches: Batches) -> Iterator[Any]:
        """Of one batch after the other, the devices being some batches ahead."""
        weights = [[self._copied(each.value) for each in some] for some in self._variables()[:2]]
        waiting: deque[Any] = deque()
        for number in range(len(batches)):
            waiting.append(self._answer(weights, batches[number]))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _share(self, indices: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
        """Of each batch, the rows of this process's devices."""
        parts = []
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            each = len(batch) // self._count
            parts.append(batch[self._place * each : (self._place + len(self._own)) * each])
        return np.concatenate(parts)

    def _put(self, batch: tuple[NDArray[Any], ...]) -> tuple[Any, ...]:
        import jax

        return tuple(jax.make_array_from_process_local_data(self._shared, part) for part in batch)

    def _copied(self, value: Any) -> Any:
        """On each device a copy of its own: a step writes over it."""
        import jax

        copies = [jax.device_put(value, device, may_alias=False) for device in self._own]
        return jax.make_array_from_single_device_arrays(value.shape, self._everywhere, copies)

    def _zeros(self) -> Any:
        """Rows so far, and what their losses and their right ones add up to."""
        return self._copied(keras.ops.zeros((3,)))

    def _variables(self) -> list[list[keras.Variable]]:
        network = self._network
        return [network.trainable_variables, network.non_trainable_variables, network.optimizer.variables]

    def _answers(self, weights: Any, batch: Any) -> Any:
        import jax

        outputs, _ = self._network.stateless_call(*weights, batch[0], training=False)
        return jax.lax.all_gather(outputs, AXIS, tiled=True)

    def _step(self, loss_of: Any, is_right: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """A step as each device takes it."""
        import jax

        network, optimizer = self._network, self._network.optimizer

        def look(trained: Any, others: Any, moments: Any, batch: Any) -> Any:
            rows, targets, weights = batch
            answers, after = network.stateless_call(trained, self._own_seeds(others), rows, training=True)
            loss = loss_of(targets, answers, sample_weight=weights)
            # In 16 bits the optimizer scales it, by a number of its own.
            with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, moments, strict=True))):
                scaled = optimizer.scale_loss(loss)
            return scaled, (loss, is_right(targets, answers).mean(), self._common_seeds(after, others))

        def step(state: Any, batch: Any) -> Any:
            (trained, others, moments), sums = state
            gradients, (loss, right, others) = jax.grad(look, has_aux=True)(trained, others, moments, batch)
            gradients, loss, right = self._mean((gradients, loss, right))
            trained, moments = optimizer.stateless_apply(moments, gradients, trained)
            rows = len(batch[0]) * self._count
            sums = sums + rows * jax.numpy.stack([jax.numpy.ones(()), loss, right])
            return ([trained, others, moments], sums), {
                "loss": sums[1] / sums[0],
                "accuracy": sums[2] / sums[0],
            }

        return step

    def _mean(self, found: Any) -> Any:
        """The mean over the devices, added up in their order. Each adds up a part and has the others' from them."""
        import jax
        from jax.flatten_util import ravel_pytree

        numbers, back = ravel_pytree(found)
        parts = jax.numpy.pad(numbers, (0, -numbers.size % self._count)).reshape(self._count, -1)
        own = jax.lax.all_to_all(parts, AXIS, split_axis=0, concat_axis=0)
        total = reduce(operator.add, [own[device] for device in range(self._count)])
        return back(jax.lax.all_gather(total, AXIS, tiled=True)[: numbers.size] / self._count)

    def _own_seeds(self, others: list[Any]) -> list[Any]:
        """Seeds of this device: with the same ones all would draw the same for their different rows."""
        import jax

        step = jax.lax.axis_index(AXIS).astype(np.uint32) * BETWEEN_SEEDS
        return [each.at[0].add(step) if _is_seed(each) else each for each in others]

    @staticmethod
    def _common_seeds(after: list[Any], before: list[Any]) -> list[Any]:
        pairs = zip(after, before, strict=True)
        return [new.at[0].set(old[0]) if _is_seed(new) else new for new, old in pairs]


def _is_seed(value: Any) -> bool:
    """Only Keras' random state has this type."""
    return bool(value.dtype == np.uint32)
