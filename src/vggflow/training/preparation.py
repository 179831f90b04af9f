"""Everything that is decided before the first epoch: device, network, phases, images, checkpoint."""

import hashlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import scipy
from numpy.typing import NDArray

from vggflow.data import manifest as manifests
from vggflow.features.batches import Examples, Shape, examples
from vggflow.features.compute import Report
from vggflow.models import builder
from vggflow.training import agreement, arithmetic, checkpoints, hardware, hosts, phases
from vggflow.training.checkpoints import Checkpoints
from vggflow.training.estimate import Estimate, estimate
from vggflow.training.frozen_features import Cache, reading
from vggflow.training.hardware import Hardware
from vggflow.training.job import TrainingJob
from vggflow.training.learner import Data
from vggflow.training.phase_inputs import Inputs
from vggflow.training.phases import Plan
from vggflow.training.precision import computing_in
from vggflow.training.shared_checkpoints import FromLeader
from vggflow.version import stamp

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Setup:
    """A training that is about to begin."""

    job: TrainingJob
    hardware: Hardware
    model: keras.Model
    plans: list[Plan]
    class_names: tuple[str, ...]
    train: Examples
    valid: Examples
    inputs: Inputs
    expected: Estimate | None
    checkpoints: Checkpoints

    def facts(self) -> dict[str, str | int | float]:
        """What is known before the first image is read."""
        return {
            **self.hardware.facts(),
            "train_images": len(self.train),
            "valid_images": len(self.valid),
            "classes": len(self.class_names),
            "parameters": int(self.model.count_params()),
            "inputs": self.checkpoints.folder.name,
            **{f"features.{plan.phase.name}": self.inputs.cut(plan) or "none" for plan in self.plans},
        }

    def learner_parts(self, number: int, report: Report) -> tuple[keras.Model, Data]:
        """The network that learns in a phase, its other layers frozen, and its data."""
        phases.freeze(self.model, self.plans[number].learning)
        network, (train, valid) = self.inputs.of_phase(number, report)
        return network, Data(train, self.train.labels, valid, self.valid.labels, self.class_weights())

    def class_weights(self) -> NDArray[np.float32]:
        """A factor per class for the loss."""
        counts = np.bincount(self.train.labels, minlength=len(self.class_names))
        if self.job.settings.train.class_weights == "none":
            return np.ones(len(counts), np.float32)
        # Their mean over the images is 1, so that the loss and the learning rate keep their meaning.
        return np.asarray(len(self.train) / (len(counts) * counts), np.float32)


def set_up(job: TrainingJob) -> Setup:
    """Builds the network and looks at the images, without reading them, but for a few where speed is tried.

    Raises:
        DataError: a split is missing, or an image is gone.
        SettingsError: the settings don't fit the network or the machine.
        WeightsError: the start weights are missing or don't fit.
    """
    settings = job.settings
    # Before the settings are believed: with another number of devices this process would wait for ever.
    agreement.refuse_differences(_asked(job))
    # Before anything computes: memory growth can't be changed once a device has started.
    machine = hardware.prepare(settings.train, job.state_folder)
    class_names = manifests.class_names(job.manifest)
    mirrored = settings.train.mirrored
    train = examples(job.manifest, "train", class_names, job.data_folder, mirrored=mirrored)
    valid = examples(job.manifest, "valid", class_names, job.data_folder)
    keras.utils.set_random_seed(settings.train.seed)
    with machine.scope():
        model = builder.build(settings.model, class_names, job.weights_folder, settings.train.seed)
    plans = phases.plan(model, settings.train.phases)
    cache = Cache(job.state_folder, job.feature_limit_bytes, settings.train, machine)
    shape = Shape(settings.model.image_size_px, settings.model.resize)
    # A trial of this machine's speed computes in the precision of the training, as all after it does.
    with machine.scope(), computing_in(model, machine.policy):
        inputs = Inputs(model, plans, (train, valid), shape, cache)
        expected = estimate(plans, inputs)
    # It also draws random numbers, and is not made again where its result is remembered.
    keras.utils.set_random_seed(settings.train.seed)
    # All that the result depends on: two trainings with an equal key end in equal bytes.
    parts = {
        "network": checkpoints.digest(model),
        "train": settings.train.model_dump(mode="json"),
        "images": [_digest(train), _digest(valid)],
        "reading": reading(shape),
        "machine": machine.facts(),
        "arithmetic": machine.arithmetic(),
        # NumPy computes the linear probe, SciPy the temperature.
        "software": [np.__version__, scipy.__version__, stamp()],
    }
    # By name, as the whole line does not show what differs.
    named = dict(each.partition(" ")[::2] for each in machine.arithmetic().split(arithmetic.SEPARATOR))
    agreement.refuse_differences(_by_name(parts | {"arithmetic": named}))
    folder = job.state_folder / CHECKPOINTS / checkpoints.key(parts)
    place = FromLeader(folder) if hosts.are_several() else Checkpoints(folder)
    return Setup(job, machine, model, plans, class_names, train, valid, inputs, expected, place)


def _asked(job: TrainingJob) -> dict[str, Any]:
    """What a person could have given two processes differently, by name: settings, images, vggflow."""
    settings = {part: job.settings.model_dump(mode="json")[part] for part in ("model", "train")}
    listed = job.manifest[["path", "sha256"]].to_csv(index=False).encode()
    return {
        "vggflow": stamp(),
        "the data": hashlib.sha256(listed).hexdigest()[:16],
        **_by_name(settings),
    }


def _by_name(value: Any, name: str = "") -> dict[str, Any]:
    """Settings by their names, such as `train.phases.0.epochs`."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {name: value}
    parts = (_by_name(each, f"{name}.{key}".strip(".")) for key, each in value.items())
    return {key: found for part in parts for key, found in part.items()}


def _digest(images: Examples) -> str:
    content = hashlib.sha256("".join(images.hashes).encode())
    content.update(images.labels.tobytes())
    return content.hexdigest()
