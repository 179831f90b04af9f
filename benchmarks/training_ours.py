"""The same training by vggflow, and its parts one by one."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.training_plain import Plan, Timed
from vggflow.data import manifest as manifests
from vggflow.settings import Settings, parse
from vggflow.training.fitting import fit
from vggflow.training.job import SilentObserver, TrainingJob
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
    return TrainingJob(chosen, manifests.scan(data), data, None, state)


def train(work: TrainingJob, keep_state: bool = False) -> Timed:
    """Trains from an empty state folder, or from what it holds."""
    if not keep_state:
        shutil.rmtree(work.state_folder, ignore_errors=True)
    started = time.perf_counter()
    trained = fit(work, SilentObserver())
    return Timed(time.perf_counter() - started, [float(row["loss"]) for row in trained.history])


@dataclass(frozen=True)
class Pass:
    """Images that went through the frozen layers, and the seconds with decoding and writing."""

    images: int
    seconds: float


def feature_pass(work: TrainingJob) -> Pass:
    """Fills the cache with what the training needs and it lacks."""
    setup = set_up(work)
    with computing_in(setup.model, setup.hardware.policy):
        for number in range(len(setup.plans)):
            setup.inputs.of_phase(number, lambda _done, _total: None)
    return Pass(setup.inputs.work.images, setup.inputs.work.seconds)


def predict_rate(work: TrainingJob, images: int) -> float:
    """Images per second of `model.predict` through the frozen layers; pixels in memory, no first call."""
    setup = set_up(work)
    cut = setup.plans[0].cut
    network = keras.Model(setup.model.inputs[0], setup.model.get_layer(cut).output)
    size = work.settings.model.image_size_px
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3)).astype(np.uint8)
    batch = work.settings.train.features.batch_size
    with computing_in(setup.model, setup.hardware.policy):
        network.predict(pixels[: 2 * batch], batch_size=batch, verbose=0)
        started = time.perf_counter()
        network.predict(pixels, batch_size=batch, verbose=0)
        return images / (time.perf_counter() - started)
