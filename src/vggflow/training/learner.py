"""The part of a network that learns in a phase, and one epoch of it."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray

from vggflow.errors import SettingsError
from vggflow.features.batches import Batches, Rows, order
from vggflow.features.compute import ComputedRows
from vggflow.features.store import StoredRows
from vggflow.models.finite import are_finite, layers_not_finite
from vggflow.models.probabilities import class_probabilities
from vggflow.settings import Phase, TrainSettings
from vggflow.training import augmentation, on_device, phases, precision
from vggflow.training.hardware import Hardware, explaining_lack_of_memory, is_lack_of_memory
from vggflow.training.job import Row
from vggflow.training.several_devices import SeveralDevices

Report = Callable[[int, int, Row], None]

# Keras' own bound, so that its loss and ours agree.
SMALLEST_PROBABILITY = 1e-7
# Batches that a device may have before it: each takes memory there. A processor needs one to be busy.
STEPS_AHEAD = {"GPU": 8, "CPU": 1}
# Outputs that are held at once while a split is measured: 16 MB of float32, several times that in float64.
MOST_NUMBERS = 2**22


@dataclass(frozen=True)
class Data:
    """Inputs and classes of the two splits; `class_weights` holds one factor per class."""

    train: Rows
    train_labels: NDArray[np.int64]
    valid: Rows
    valid_labels: NDArray[np.int64]
    class_weights: NDArray[np.float32]


class Learner:
    """A network with its optimizer on its data: trains an epoch at a time.

    Keras' `fit` runs one epoch per call, so all that an epoch depends on is passed in or held in variables of
    the model and the optimizer: order from seed and epoch, rates from the optimizer's count of steps.
    """

    def __init__(
        self, network: keras.Model, data: Data, settings: TrainSettings, phase: Phase, hardware: Hardware
    ) -> None:
        rows = (data.train, data.valid)
        # Images that are decoded in every epoch are no rows that could be put anywhere.
        if all(isinstance(each, StoredRows | ComputedRows) for each in rows) and on_device.fits(
            network, on_device.bytes_of(rows), settings.batch_size, hardware
        ):
            network, data = _put_on_device(network, data)
        self.network = network
        self._data = data
        self._settings = settings
        self._phase = phase
        self._hardware = hardware
        # Devices share a batch evenly; what is left over differs from epoch to epoch, as the order does.
        self._count = len(data.train) - len(data.train) % len(hardware.devices)
        self.steps = math.ceil(self._count / settings.batch_size)
        self.optimizer = self._compile(phases.schedule(phase, self.steps))

    def _compile(self, rate: Any) -> keras.optimizers.Optimizer:
        binary = self.network.outputs[0].shape[-1] == 1
        loss = keras.losses.BinaryCrossentropy() if binary else keras.losses.CategoricalCrossentropy()
        right = keras.metrics.binary_accuracy if binary else keras.metrics.categorical_accuracy
        accuracy = keras.metrics.BinaryAccuracy if binary else keras.metrics.CategoricalAccuracy
        optimizer = precision.optimizer(phases.optimizer(self._phase, rate), self._hardware.policy)
        metrics = [accuracy(name="accuracy")]
        self.network.compile(optimizer, loss, metrics=metrics, jit_compile=self._hardware.xla)
        # Before the first step, so that a checkpoint can fill its variables.
        optimizer.build(self.network.trainable_variables)
        mesh = self._hardware.mesh
        self._several = SeveralDevices(self.network, mesh, loss, right) if mesh else None
        return optimizer

    def random_layers(self) -> list[keras.layers.Layer]:
        """The layers that change pixels at random; their state belongs to a checkpoint."""
        layers = on_device.inner(self.network).layers
        return [layer for layer in layers if layer.name.startswith(augmentation.PREFIX)]

    def epoch(self, number: int, epoch_in_phase: int, report: Report) -> Row:
        """Trains one epoch, measures it on valid, returns its row; `number` counts over all phases from 1."""
        started = time.perf_counter()
        steps = _Steps(self, number, epoch_in_phase, report, STEPS_AHEAD[self._hardware.kind])
        indices = order(self._settings.seed, number, len(self._data.train))[: self._count]
        with explaining_lack_of_memory("train.batch_size", self._settings.batch_size, self._hardware.kind):
            logs = self._train(indices, self._settings.batch_size, steps)
            trained = time.perf_counter()
            self._refuse_nan(number, "loss", logs["loss"])
            measured = self._measure()
            # The last step may have spoilt the weights, which the loss before it does not show.
            self._refuse_nan(number, "val_loss", measured["val_loss"])
            self._refuse_spoilt_weights(number)
        return {
            "phase": self._phase.name,
            "epoch": number,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            **measured,
            "learning_rate": self.rate((epoch_in_phase + 1) * self.steps - 1),
            "seconds": round(time.perf_counter() - started, 4),
            "images_per_second": round(self._count / (trained - started), 2),
            "memory_mb": anonymous_memory_mb(),
            **self._hardware.memory(),
        }

    def run(self, rate: Any, steps: int, callback: keras.callbacks.Callback) -> None:
        """Trains a number of full batches at another rate than the phase's, with nothing measured or kept."""
        self._compile(rate)
        size = min(self._settings.batch_size, self._count)
        epochs = range(1, math.ceil(steps * size / self._count) + 1)
        orders = [order(self._settings.seed, epoch, len(self._data.train))[: self._count] for epoch in epochs]
        with explaining_lack_of_memory("train.batch_size", size, self._hardware.kind):
            callbacks = keras.callbacks.CallbackList([callback], add_history=True, model=self.network)
            self._train(np.concatenate(orders)[: steps * size], size, callbacks)

    def rate(self, step: int) -> float:
        """The learning rate of a step of the phase, counted from 0."""
        return phases.learning_rate(self._phase, step, self.steps)

    def row(self, number: int, epoch_in_phase: int, step: int, logs: dict[str, Any]) -> Row:
        """What is known after a step (counted from 0) of an epoch."""
        return {
            "phase": self._phase.name,
            "epoch": number,
            "step": (number - 1) * self.steps + step + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "learning_rate": self.rate(epoch_in_phase * self.steps + step),
        }

    def _train(
        self, indices: NDArray[np.int64], batch_size: int, callbacks: keras.callbacks.CallbackList
    ) -> dict[str, float]:
        """Goes through the rows once; loss and accuracy as means over all of them."""
        labels = self._data.train_labels
        weights = self._data.class_weights[labels]

        def targets(chosen: NDArray[np.int64]) -> NDArray[np.float32]:
            return self._targets(labels[chosen])

        rows = self._data.train
        if self._several:
            callbacks.on_train_begin()
            found = self._several.train(
                rows, batch_size, indices, callbacks.on_train_batch_end, targets=targets, weights=weights
            )
            callbacks.on_epoch_end(0, found)
            return found
        return fit_once(self.network, Batches(rows, batch_size, indices, targets, weights), callbacks)

    def _targets(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """One number per class, for one batch: those of all images would take images × classes numbers."""
        units = int(self.network.outputs[0].shape[-1])
        if units == 1:
            return labels.astype(np.float32)[:, np.newaxis]
        return np.eye(units, dtype=np.float32)[labels]

    def _measure(self) -> dict[str, float]:
        labels = self._data.valid_labels
        losses, correct, start = [], 0, 0
        size = self._settings.batch_size
        rows = self._data.valid
        several = self._several
        for outputs in (
            several.predict_in_parts(rows, size) if several else predict_in_parts(self.network, rows, size)
        ):
            probabilities = class_probabilities(outputs)
            true = labels[start : start + len(outputs)]
            losses.append(log_losses(probabilities, true))
            correct += int((probabilities.argmax(axis=1) == true).sum())
            start += len(outputs)
        return {"val_loss": float(np.concatenate(losses).mean()), "val_accuracy": correct / len(labels)}

    def _refuse_nan(self, number: int, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise SettingsError(
                f"phase {self._phase.name}: the {name} of epoch {number} is {loss}; "
                f"use a learning_rate below {self._phase.learning_rate}"
            )

    def _refuse_spoilt_weights(self, number: int) -> None:
        """Losses can be finite although weights are not: ReLU makes 0 of NaN."""
        # Not rows on the device, which never change and were looked at when they were computed.
        network = on_device.inner(self.network)
        if not are_finite([*network.variables, *self.optimizer.variables]):
            spoilt = layers_not_finite(network)
            where = f"layer {spoilt[0]}" if spoilt else f"the optimizer {self._phase.optimizer}"
            raise SettingsError(
                f"phase {self._phase.name}: after epoch {number} {where} holds numbers that are not finite; "
                f"use a learning_rate below {self._phase.learning_rate}"
            )


def _put_on_device(network: keras.Model, data: Data) -> tuple[keras.Model, Data]:
    try:
        behind, (train, valid) = on_device.put(network, (data.train, data.valid))
    except Exception as error:
        if not is_lack_of_memory(error):
            raise
        # Another program took what was free: then rows come from the host, which takes longer and gives the same.
        return network, data
    return behind, replace(data, train=train, valid=valid)


def predict(network: keras.Model, rows: Rows, batch_size: int) -> NDArray[np.float32]:
    """The network's outputs for all rows, in their order: rows × classes numbers."""
    return np.concatenate(list(predict_in_parts(network, rows, batch_size)))


def predict_in_parts(network: keras.Model, rows: Rows, batch_size: int) -> Iterator[NDArray[np.float32]]:
    """The network's outputs for some rows after others, whole batches at a time, each part of bounded size."""
    numbers = max(1, int(network.outputs[0].shape[-1])) * batch_size
    rows_at_a_time = max(1, MOST_NUMBERS // numbers) * batch_size
    for start in range(0, len(rows), rows_at_a_time):
        indices = np.arange(start, min(start + rows_at_a_time, len(rows)))
        batches = Batches(rows, batch_size, indices)
        try:
            yield np.asarray(network.predict(batches.for_keras(), verbose=0))
        except Exception:
            _raise_cause(batches)
            raise


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean of minus the logarithm of the true class's probability."""
    return float(log_losses(probabilities, labels).mean())


def log_losses(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Minus the logarithm of the true class's probability, for each row."""
    true = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1.0)), np.float64)


def anonymous_memory_mb() -> float:
    """Memory of this process that no file stands behind: what training itself needs."""
    memory = psutil.Process().memory_info()
    # macOS tells nothing of shared memory.
    return round((memory.rss - getattr(memory, "shared", 0)) / 2**20, 1)


def fit_once(
    network: keras.Model,
    batches: Batches,
    callbacks: keras.callbacks.CallbackList,
) -> dict[str, float]:
    """Goes through the batches once, training; returns loss and accuracy as means over all of them."""
    try:
        # `shuffle=False`: Keras would draw an order of its own over ours.
        found = network.fit(batches.for_keras(), epochs=1, verbose=0, shuffle=False, callbacks=callbacks)
    except Exception:
        _raise_cause(batches)
        raise
    return {name: values[-1] for name, values in found.history.items()}


def _raise_cause(batches: Batches) -> None:
    # What was raised where images are read; TensorFlow hides it behind an error of its own.
    if batches.error is not None:
        raise batches.error


class _Steps(keras.callbacks.CallbackList):  # type: ignore[misc]
    """Tells of steps in their order, each when the device is some steps further: none waits for the numbers before.

    Keras' own list asks for the numbers of a step as soon as it is begun, which waits for the device: on TensorFlow
    always, on JAX in threads that tell in any order.
    """

    def __init__(
        self, learner: Learner, number: int, epoch_in_phase: int, report: Report, ahead: int
    ) -> None:
        super().__init__(add_history=True, model=learner.network)
        self._learner = learner
        self._number = number
        self._epoch_in_phase = epoch_in_phase
        self._report = report
        self._ahead = ahead
        self._under_way: deque[dict[str, Any]] = deque()
        self._told = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._under_way.append(logs or {})
        if len(self._under_way) > self._ahead:
            self._tell()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        while self._under_way:
            self._tell()
        super().on_epoch_end(epoch, logs)

    def _tell(self) -> None:
        # Here the device is waited for.
        row = self._learner.row(self._number, self._epoch_in_phase, self._told, self._under_way.popleft())
        self._told += 1
        self._report(self._told, self._learner.steps, row)
