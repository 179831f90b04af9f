"""Trials of the first phase: from features that are read once, with a program for each form of the head."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.features.batches import order
from vggflow.features.compute import Report
from vggflow.models import builder
from vggflow.models import cut as networks
from vggflow.models.probabilities import class_probabilities
from vggflow.search.compiled_epoch import CompiledEpoch
from vggflow.search.rows_in_memory import MOST_BYTES, RowsInMemory, in_memory
from vggflow.search.space import Choices
from vggflow.search.study import Diverged
from vggflow.settings import ModelSettings, Settings
from vggflow.training import phases
from vggflow.training.job import Row, TrainingJob
from vggflow.training.learner import log_losses
from vggflow.training.precision import computing_in
from vggflow.training.preparation import Setup, set_up
from vggflow.training.probe import probe_accuracy
from vggflow.training.start_features import LAST_OF_THE_CONVOLUTIONS

Stop = Callable[[Row], bool]


class NotCached(Exception):
    """Features of the first phase are not kept, too large to hold, or convolutions learn from them.

    Then its trials are normal trainings.
    """


@dataclass(frozen=True)
class Head:
    """What trials with one kind of head share: the layer whose features they read, and these."""

    setup: Setup
    cut: str
    rows: RowsInMemory


class CachedTrials:
    """Trains the first phase again and again, as a training would, and keeps nothing of it but its figures.

    As a context manager: within it networks compute in the precision of the training.
    """

    def __init__(self, job: TrainingJob, space: Mapping[str, Choices], report: Report) -> None:
        """Reads or computes the features of all heads that are tried, in one pass.

        Raises:
            NotCached: they are not kept, as where pixels change at random, too large for memory, or convolutions
                learn from them.
        """
        self._job = job
        self._report = report
        self._kept = ExitStack()
        self._programs: dict[tuple[ModelSettings, str], CompiledEpoch] = {}
        self._heads: dict[str, Head] = {}
        given = space.get("model.head", (job.settings.model.head,))
        heads = [str(each) for each in given] if isinstance(given, Sequence) else []
        for name in sorted({*heads, job.settings.model.head}, key=("pooling", "flatten", "fc").index):
            self._heads[name] = self._read(name, heads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()

    def linear_probe(self) -> float:
        """The accuracy on valid of a linear classifier on the features of the head that the settings name."""
        head = self._heads[self._job.settings.model.head]
        rows = head.rows
        return probe_accuracy(_Array(rows.train), rows.labels, _Array(rows.valid), rows.valid_labels)

    def run(self, settings: Settings, stop: Stop) -> list[Row]:
        """A row for each epoch of the first phase, up to one where `stop` says so.

        Raises:
            Diverged: numbers are not finite any more.
        """
        phase = settings.train.phases[0]
        head = self._heads[settings.model.head]
        program = self._program(settings, head)
        program.reset()
        weights = replace(head.setup, job=replace(self._job, settings=settings)).class_weights()
        steps = math.ceil(len(head.rows.train) / settings.train.batch_size)
        rows: list[Row] = []
        best: float | None = None
        stale = 0
        while not phases.is_over(phase, len(rows), stale):
            started = time.perf_counter()
            first = len(rows) * steps
            rates = [phases.learning_rate(phase, step, steps) for step in range(first, first + steps)]
            shuffled = order(settings.train.seed, len(rows) + 1, len(head.rows.train))
            loss, accuracy = program.run(
                shuffled, settings.train.batch_size, rates, weights[head.rows.labels]
            )
            measured = _measure(program.answers(), head.rows.valid_labels)
            row: Row = {
                "phase": phase.name,
                "epoch": len(rows) + 1,
                "loss": loss,
                "accuracy": accuracy,
                **measured,
                "learning_rate": rates[-1],
                "seconds": round(time.perf_counter() - started, 4),
            }
            finite = math.isfinite(loss) and math.isfinite(measured["val_loss"])
            if not (finite and program.is_finite()):
                raise Diverged(rows)
            rows.append(row)
            stale += 1
            if phases.improves(phase, row, best):
                best, stale = float(row[phase.monitor]), 0
            if stop(row):
                break
        return rows

    def _program(self, settings: Settings, head: Head) -> CompiledEpoch:
        phase, model = settings.train.phases[0], settings.model
        key = (model, phase.optimizer)
        if key not in self._programs:
            names, seed = head.setup.class_names, settings.train.seed
            network = builder.build(model, names, self._job.weights_folder, seed)
            self._kept.enter_context(computing_in(network, head.setup.hardware.policy))
            phases.freeze(network, phases.plan(network, [phase])[0].learning)
            # A rate that is a variable: each step is told its own.
            optimizer = phases.optimizer(phase, phase.learning_rate)
            self._programs[key] = CompiledEpoch(networks.suffix(network, head.cut), optimizer, head.rows)
        return self._programs[key]

    def _read(self, head: str, heads: Sequence[str]) -> Head:
        settings = self._job.settings
        model = settings.model.model_copy(update={"head": head})
        setup = set_up(replace(self._job, settings=settings.model_copy(update={"model": model})))
        cut = setup.inputs.cut(setup.plans[0])
        if cut is None or len(setup.hardware.devices) > 1 or setup.hardware.policy == "mixed_float16":
            raise NotCached
        # Behind convolutions an epoch is computation: it gains nothing here, and would hold all of it at once.
        learns = [setup.model.get_layer(name) for name in setup.plans[0].learning]
        if any(isinstance(layer, keras.layers.Conv2D) for layer in learns):
            raise NotCached
        units = int(setup.model.outputs[0].shape[-1])
        targets = 4 * units * len(setup.train)
        if setup.inputs.total_bytes(cut) * 2 + targets > MOST_BYTES:
            raise NotCached
        with setup.hardware.scope(), computing_in(setup.model, setup.hardware.policy):
            if head == "pooling" and "flatten" in heads and cut == "global_pool":
                setup.inputs.fill([LAST_OF_THE_CONVOLUTIONS, cut], self._report)
            _, data = setup.learner_parts(0, self._report)
            return Head(setup, cut, in_memory(data, units))


@dataclass(frozen=True)
class _Array:
    """Rows of an array in memory."""

    rows: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.generic]:
        return self.rows[indices]


def _measure(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    probabilities = class_probabilities(outputs)
    return {
        "val_loss": float(log_losses(probabilities, labels).mean()),
        "val_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }
