"""Training from start to end: phases in a row, one history, best weights kept, every epoch a checkpoint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.data import manifest as manifests
from vggflow.data.batches import Examples, Shape, examples
from vggflow.models import builder
from vggflow.models.files import ModelInfo
from vggflow.training import checkpoints, hardware, phases
from vggflow.training.checkpoints import Checkpoints, Progress
from vggflow.training.extraction import Cache, Inputs
from vggflow.training.hardware import Hardware
from vggflow.training.job import Facts, Observer, Row, Trained, TrainingJob
from vggflow.training.learner import Data, Learner
from vggflow.training.phases import Plan
from vggflow.version import stamp

__all__ = ["Observer", "Trained", "TrainingJob", "discard_checkpoint", "fit"]


@dataclass(frozen=True)
class Setup:
    """Everything that is decided before the first epoch."""

    job: TrainingJob
    hardware: Hardware
    model: keras.Model
    plans: list[Plan]
    class_names: tuple[str, ...]
    train: Examples
    valid: Examples
    checkpoints: Checkpoints
    inputs: Inputs


def fit(job: TrainingJob, observer: Observer) -> Trained:
    """Trains in the phases of the settings, going on where a killed training of the same inputs stopped.

    The checkpoint stays until `discard_checkpoint`: call that once the model is written, so that a kill in
    between costs nothing.

    Raises:
        DataError: images are missing, or changed since the manifest was made.
        SettingsError: the settings don't fit the network, or the loss is not a number any more.
        WeightsError: the start weights are missing or don't fit.
    """
    setup = _set_up(job)
    with setup.hardware.scope():
        progress, facts = _begin(setup, observer)
        for plan in setup.plans[progress.phase :]:
            _run_phase(setup, plan, progress, observer)
    late = _late_facts(setup)
    observer.on_end(late)
    return Trained(setup.model, _info(setup), progress.rows, {**facts, **late})


def discard_checkpoint(job: TrainingJob, trained: Trained) -> None:
    """Removes the checkpoint of a training whose model is written."""
    Checkpoints(job.state_folder / "checkpoints" / str(trained.facts["inputs"])).discard()


def _set_up(job: TrainingJob) -> Setup:
    machine = hardware.prepare(job.devices)
    train_settings = job.settings.train
    class_names = manifests.class_names(job.manifest)
    train, valid = (
        examples(job.manifest, split, class_names, job.data_folder) for split in ("train", "valid")
    )
    keras.utils.set_random_seed(train_settings.seed)
    with machine.scope():
        model = builder.build(job.settings.model, class_names, job.weights_folder, train_settings.seed)
    plans = phases.plan(model, train_settings.phases)
    folder = job.state_folder / "checkpoints"
    checkpoints.prune(folder)
    inputs = checkpoints.key(
        {
            "network": checkpoints.digest(model),
            "train": train_settings.model_dump(mode="json"),
            "images": [_digest(train), _digest(valid)],
            "resize": job.settings.model.resize,
            "machine": machine.facts(),
            "vggflow": stamp(),
        }
    )
    shape = Shape(job.settings.model.image_size_px, job.settings.model.resize)
    cache = Cache(job.state_folder, job.feature_limit_bytes, train_settings.features, machine)
    ways = Inputs(model, plans, (train, valid), shape, cache)
    return Setup(job, machine, model, plans, class_names, train, valid, Checkpoints(folder / inputs), ways)


def _digest(images: Examples) -> str:
    content = hashlib.sha256("".join(images.hashes).encode())
    content.update(images.labels.tobytes())
    return content.hexdigest()


def _begin(setup: Setup, observer: Observer) -> tuple[Progress, Facts]:
    progress = Progress()
    if (saved := setup.checkpoints.load()) is not None:
        progress, arrays = saved
        checkpoints.restore(setup.model.layers, arrays)
        observer.on_resume(progress.run_id, progress.rows)
    facts = _facts(setup, resumed_after=len(progress.rows))
    observer.on_start(facts)
    progress.run_id = observer.run_id
    if saved is None:
        setup.checkpoints.save(progress, {})
    return progress, facts


def _facts(setup: Setup, resumed_after: int) -> Facts:
    return {
        **setup.hardware.facts(),
        "train_images": len(setup.train),
        "valid_images": len(setup.valid),
        "classes": len(setup.class_names),
        "parameters": int(setup.model.count_params()),
        "inputs": setup.checkpoints.folder.name,
        "resumed_after_epochs": resumed_after,
    }


def _late_facts(setup: Setup) -> Facts:
    work = setup.inputs.work
    return {
        "feature_images": work.images,
        "feature_seconds": round(work.seconds, 3),
        **{f"features_{plan.phase.name}": setup.inputs.cut(plan) or "pixels" for plan in setup.plans},
    }


def _run_phase(setup: Setup, plan: Plan, progress: Progress, observer: Observer) -> None:
    phases.freeze(setup.model, plan.learning)
    network, rows = setup.inputs.of_phase(progress.phase, observer.on_features)
    data = Data(rows[0], setup.train.labels, rows[1], setup.valid.labels, _class_weights(setup))
    learner = Learner(network, data, setup.job.settings.train, plan.phase, setup.hardware.xla)
    if progress.epoch and (saved := setup.checkpoints.load()) is not None:
        checkpoints.restore_optimizer(learner.optimizer, saved[1])
    while not _is_over(plan, progress):
        row = learner.epoch(len(progress.rows) + 1, progress.epoch, observer.on_step)
        _keep(setup, plan, progress, row, learner)
        observer.on_epoch(row)
    checkpoints.restore(setup.model.layers, setup.checkpoints.load_best(progress) or {})
    progress.next_phase()
    setup.checkpoints.save(progress, _learned(setup, progress))


def _keep(setup: Setup, plan: Plan, progress: Progress, row: Row, learner: Learner) -> None:
    progress.add(row)
    if phases.improves(plan.phase, row, progress.best):
        progress.mark_best(float(row[plan.phase.monitor]))
        setup.checkpoints.save_best(progress, checkpoints.state(_layers(setup, [plan])))
    optimizer = checkpoints.optimizer_state(learner.optimizer)
    setup.checkpoints.save(progress, {**_learned(setup, progress), **optimizer})


def _is_over(plan: Plan, progress: Progress) -> bool:
    stopping = plan.phase.early_stopping
    if stopping is not None and progress.stale >= stopping.patience:
        return True
    return progress.epoch >= plan.phase.epochs


def _learned(setup: Setup, progress: Progress) -> checkpoints.Arrays:
    """What differs from the start weights: the layers that learnt in this phase or one before."""
    return checkpoints.state(_layers(setup, setup.plans[: progress.phase + 1]))


def _layers(setup: Setup, plans: Sequence[Plan]) -> list[keras.layers.Layer]:
    names = {name for plan in plans for name in plan.learning}
    return [layer for layer in setup.model.layers if layer.name in names]


def _class_weights(setup: Setup) -> NDArray[np.float32]:
    counts = np.bincount(setup.train.labels, minlength=len(setup.class_names))
    if setup.job.settings.train.class_weights == "none":
        return np.ones(len(counts), np.float32)
    return np.asarray(len(setup.train) / (len(counts) * counts), np.float32)


def _info(setup: Setup) -> ModelInfo:
    model = setup.job.settings.model
    return ModelInfo(setup.class_names, model.image_size_px, model.resize, model.preprocessing)
