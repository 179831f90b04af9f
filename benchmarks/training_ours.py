"""The same training by vggflow, and its parts one by one."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.training_plain import Plan, Timed
from vggflow.features.compute import PIXELS, ComputedRows
from vggflow.gate.scan import scan
from vggflow.models.network_summary import summarise
from vggflow.settings import Settings, parse
from vggflow.training import hardware, on_device
from vggflow.training.fitting import fit
from vggflow.training.job import SilentObserver, TrainingJob
from vggflow.training.matrix_speed import multiply_adds_a_second
from vggflow.training.precision import computing_in
from vggflow.training.preparation import set_up

OTHERS = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}


def settings(plan: Plan, precision: str, **train: Any) -> Settings:
    """The plan as settings of vggflow."""
    phases = [
        {"name": "head", "freeze_through": "block5_pool", "learning_rate": 1e-3, "epochs": plan.head_epochs},
        {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 1e-5, "epochs": plan.top_epochs},
    ]
    learning = {
        "batch_size": plan.batch_size,
        "precision": precision,
        "backend": keras.backend.backend(),
        "phases": [phase for phase in phases if phase["epochs"]],
    }
    model = {"image_size_px": plan.size_px, "weights": "none", "head": "pooling"}
    return parse({"model": model, "train": learning | train, **OTHERS})


def job(data: Path, state: Path, chosen: Settings) -> TrainingJob:
    """A training of these images; the manifest, which the data gate makes, is not part of any timing."""
    return TrainingJob(chosen, scan(data), data, None, state)


def train(work: TrainingJob, keep_state: bool = False) -> Timed:
    """Trains from an empty state folder, or from what it holds."""
    if not keep_state:
        shutil.rmtree(work.state_folder, ignore_errors=True)
    started = time.perf_counter()
    trained = fit(work, SilentObserver())
    seconds = time.perf_counter() - started
    losses = [float(row[name]) for name in ("loss", "val_loss") for row in trained.history]
    return Timed(seconds, losses, [(str(row["phase"]), float(row["seconds"])) for row in trained.history])


def policy(chosen: Settings, state: Path) -> str:
    """Keras' dtype policy that the settings mean on this machine."""
    return hardware.prepare(chosen.train, state).policy


@dataclass(frozen=True)
class Pass:
    """Images that went through the frozen layers, and the seconds in all: also of looking up what is there,
    of checking it, of decoding and of writing."""

    images: int
    seconds: float

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def feature_pass(work: TrainingJob) -> Pass:
    """Fills the cache with what the training needs and it lacks."""
    setup = set_up(work)
    started = time.perf_counter()
    with computing_in(setup.model, setup.hardware.policy):
        for number in range(len(setup.plans)):
            setup.inputs.of_phase(number, lambda _done, _total: None)
    return Pass(setup.inputs.work.images, time.perf_counter() - started)


def pass_from_kept_pixels(work: TrainingJob) -> Pass:
    """The same pass where pixels were kept before, so that no image is decoded."""
    shutil.rmtree(work.state_folder / "features", ignore_errors=True)
    keeping = set_up(work)
    keeping.inputs.kept = [PIXELS]
    keeping.inputs.of_phase(0, lambda _done, _total: None)
    return feature_pass(work)


def computed_on_device(work: TrainingJob) -> Pass | None:
    """Features that a phase computes from kept pixels when it begins, after the pass; none where it computes none."""
    setup = set_up(work)
    with computing_in(setup.model, setup.hardware.policy):
        for number in range(len(setup.plans)):
            network, rows = setup.inputs.of_phase(number, lambda _done, _total: None)
            if all(isinstance(each, ComputedRows) for each in rows):
                started = time.perf_counter()
                behind, numbers = on_device.put(network, rows)
                # An answer is here only once the rows are there.
                keras.ops.convert_to_numpy(behind(numbers[0].gather(np.zeros(1, np.int64))))
                return Pass(sum(map(len, rows)), time.perf_counter() - started)
    return None


def predict_rate(work: TrainingJob, images: int) -> float:
    """Images per second of `model.predict` through the frozen layers; pixels in memory, no first call."""
    setup = set_up(work)
    network = _frozen_layers(setup.model, setup.plans[0].cut)
    size = work.settings.model.image_size_px
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3)).astype(np.uint8)
    batch = work.settings.train.features.batch_size
    with computing_in(setup.model, setup.hardware.policy):
        network.predict(pixels[: 2 * batch], batch_size=batch, verbose=0)
        started = time.perf_counter()
        network.predict(pixels, batch_size=batch, verbose=0)
        return images / (time.perf_counter() - started)


def multiply_adds(work: TrainingJob) -> int:
    """Of one image through the frozen layers."""
    setup = set_up(work)
    return summarise(_frozen_layers(setup.model, setup.plans[0].cut)).multiply_adds


def step_multiply_adds(network: keras.Model) -> int:
    """Of one image in a step in which all of a network learns: forward, and for the gradients of weights and inputs.

    Nobody asks for the gradient of the first layer's input.
    """
    layers = [layer.multiply_adds for layer in summarise(network).layers if layer.multiply_adds]
    return 3 * sum(layers) - layers[0]


def _frozen_layers(model: keras.Model, cut: str | None) -> keras.Model:
    return keras.Model(model.inputs[0], model.get_layer(cut).output)


def matrix_peak(dtype: str) -> float:
    """Multiply-adds a second of products of large matrices: the most that the device was seen to do."""
    return multiply_adds_a_second(dtype, 2048 if _is_processor() else 8192)


def _is_processor() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.devices()[0].platform == "cpu")
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")
