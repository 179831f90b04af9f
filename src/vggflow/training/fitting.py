"""Training from start to end: phases in a row, one history, best weights kept, every epoch a checkpoint."""

import time
import uuid
from collections.abc import Sequence
from functools import partial

import keras
import numpy as np

from vggflow import console
from vggflow.features.array_files import Arrays
from vggflow.features.batches import Rows
from vggflow.models import cut, heads
from vggflow.models.files import ModelInfo
from vggflow.training import checkpoints, hosts, phases
from vggflow.training.checkpoint_writer import CheckpointWriter
from vggflow.training.checkpoints import Checkpoints, Progress
from vggflow.training.fit_temperature import fit_temperature
from vggflow.training.hardware import explaining_lack_of_memory
from vggflow.training.job import TRAINING, Observer, Row, Trained, TrainingJob
from vggflow.training.learner import Data, Learner, predict
from vggflow.training.phases import Plan
from vggflow.training.precision import computing_in
from vggflow.training.preparation import CHECKPOINTS, Setup, set_up
from vggflow.training.probe import probe_accuracy

__all__ = ["Observer", "Trained", "TrainingJob", "discard_checkpoint", "fit"]


def fit(job: TrainingJob, observer: Observer) -> Trained:
    """Trains in the phases of the settings, going on where a killed training of the same inputs stopped.

    The checkpoint stays until `discard_checkpoint`: call that once the model is written, so that a kill in
    between costs nothing.

    Raises:
        DataError: images are missing, or changed since the manifest was made.
        SettingsError: the settings don't fit network or machine, or the loss is not a number any more.
        WeightsError: the start weights are missing or don't fit.
    """
    setup = set_up(job)
    with setup.checkpoints.held(), setup.hardware.scope():
        progress, facts = _begin(setup, observer)
        with CheckpointWriter(setup.checkpoints) as writer:
            with computing_in(setup.model, setup.hardware.policy):
                for number in range(progress.phase, len(setup.plans)):
                    _run_phase(setup, number, progress, observer, writer)
                # Under the training's precision too: else these would be other features, to be computed again.
                _, (_, valid) = setup.inputs.of_phase(len(setup.plans) - 1, observer.on_features)
            found = _calibrate(setup, valid)
        # What was frozen is written into model files, and concerns the training only.
        phases.freeze(setup.model, [layer.name for layer in setup.model.layers])
    results = {**progress.results, **setup.inputs.work.results(), **found}
    observer.on_end(results)
    return Trained(setup.model, _info(setup, found["temperature"]), progress.rows, facts, results)


def discard_checkpoint(job: TrainingJob, trained: Trained) -> None:
    """Removes the checkpoint of a training whose model is written."""
    Checkpoints(job.state_folder / CHECKPOINTS / str(trained.facts["inputs"])).discard()


def _begin(setup: Setup, observer: Observer) -> tuple[Progress, dict[str, str | int | float]]:
    if hosts.leads():
        checkpoints.prune(setup.job.state_folder / CHECKPOINTS)
    saved = setup.checkpoints.load()
    progress, arrays = saved or (
        setup.checkpoints.begin(Progress(uuid.uuid4().hex, setup.inputs.kept, setup.inputs.computed)),
        {},
    )
    # Whatever room there is now, or on this host: other inputs would end in other bytes.
    setup.inputs.kept, setup.inputs.computed = progress.kept, progress.computed
    if saved:
        checkpoints.restore(setup.model.layers, arrays)
        observer.on_resume(progress.run_id, progress.rows, progress.step_rows())
    else:
        for line in setup.expected.lines() if setup.expected else ():
            console.tell(line)
        # Before there is a run: one that is opened for a training that is killed then can be found again.
        setup.checkpoints.save(progress, arrays)
    facts = setup.facts() | {TRAINING: progress.training}
    observer.on_start(facts)
    if progress.run_id != observer.run_id:
        progress.run_id = observer.run_id
        setup.checkpoints.save(progress, arrays)
    return progress, facts


def _run_phase(
    setup: Setup, number: int, progress: Progress, observer: Observer, writer: CheckpointWriter
) -> None:
    plan = setup.plans[number]
    network, data = setup.learner_parts(number, observer.on_features)
    # A training that goes on has it in its checkpoint.
    if number == 0 and setup.inputs.cut(plan) is not None and not progress.rows:
        progress.results |= _probe(data, setup.inputs.work.seconds)
    learner = Learner(network, data, setup.job.settings.train, plan.phase, setup.hardware)
    if progress.epoch:
        # Only now: before `Learner` builds it the optimizer has no variables to fill.
        saved = setup.checkpoints.load_arrays()
        checkpoints.restore_optimizer(learner.optimizer, saved)
        checkpoints.restore(learner.random_layers(), saved)
    while progress.phase == number:
        steps = _Steps(observer, writer)
        row = learner.epoch(len(progress.rows) + 1, progress.epoch, steps)
        # Else there would be the numbers of two checkpoints in memory.
        writer.finish()
        progress.add(row, steps.rows)
        arrays, best = _to_keep(setup, progress, row, learner)
        # The checkpoint before the news: after a kill an epoch is told twice, never left out.
        writer.begin(progress, arrays, best, partial(observer.on_epoch, row))


class _Steps:
    """Passes steps on and remembers them for the checkpoint; between them there may be news of the one before."""

    def __init__(self, observer: Observer, writer: CheckpointWriter) -> None:
        self.rows: list[Row] = []
        self._observer = observer
        self._writer = writer

    def __call__(self, done: int, total: int, row: Row) -> None:
        self._writer.tell()
        self.rows.append(row)
        self._observer.on_step(done, total, row)


def _probe(data: Data, feature_seconds: float) -> dict[str, float]:
    """What the features are worth without training, and what that takes, the feature pass included."""
    started = time.perf_counter()
    accuracy = probe_accuracy(data.train, data.train_labels, data.valid, data.valid_labels)
    return {
        "linear_probe_val_accuracy": accuracy,
        "linear_probe_seconds": round(feature_seconds + time.perf_counter() - started, 3),
    }


def _to_keep(setup: Setup, progress: Progress, row: Row, learner: Learner) -> tuple[Arrays, Arrays | None]:
    """The numbers of a checkpoint after an epoch, and the best weights if they are new.

    Where the phase is over, moves on: to its best weights, and to the phase after it.
    """
    plan = setup.plans[progress.phase]
    if better := phases.improves(plan.phase, row, progress.best):
        progress.mark_best(float(row[plan.phase.monitor]))
    if phases.is_over(plan.phase, progress.epoch, progress.stale):
        if not better:
            checkpoints.restore(setup.model.layers, setup.checkpoints.load_best(progress))
        progress.next_phase()
        # The phase after it has an optimizer of its own.
        return _learned(setup, progress), None
    learning = checkpoints.optimizer_state(learner.optimizer) | checkpoints.state(learner.random_layers())
    return _learned(setup, progress) | learning, checkpoints.state(_layers(setup, [plan])) if better else None


def _learned(setup: Setup, progress: Progress) -> Arrays:
    """What differs from the start weights: the layers that learnt in this phase or one before."""
    return checkpoints.state(_layers(setup, setup.plans[: progress.phase + 1]))


def _layers(setup: Setup, plans: Sequence[Plan]) -> list[keras.layers.Layer]:
    names = {name for plan in plans for name in plan.learning}
    return [layer for layer in setup.model.layers if layer.name in names]


def _calibrate(setup: Setup, valid: Rows) -> dict[str, float]:
    """Fits the temperature; also says how the model that the training leaves does on valid."""
    network = cut.suffix(setup.model, setup.inputs.cut(setup.plans[-1]), heads.PREDICTIONS)
    size = setup.job.settings.train.batch_size
    with explaining_lack_of_memory("train.batch_size", size, setup.hardware.kind):
        logits = predict(network, valid, size)
    temperature = fit_temperature(np.asarray(logits), setup.valid.labels)
    heads.set_temperature(setup.model, temperature)
    # A single logit above 0 is a probability above one half.
    guesses = logits.argmax(axis=1) if logits.shape[1] > 1 else logits[:, 0] > 0
    return {
        "temperature": temperature,
        "model_val_accuracy": float((guesses == setup.valid.labels).mean()),
    }


def _info(setup: Setup, temperature: float) -> ModelInfo:
    model = setup.job.settings.model
    return ModelInfo(setup.class_names, model.image_size_px, model.resize, model.preprocessing, temperature)
