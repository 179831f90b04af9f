"""What goes into a training, what comes out of it, and who is told on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from vggflow.models.files import ModelInfo
from vggflow.settings import Settings

if TYPE_CHECKING:
    import keras

Row = dict[str, str | int | float]
Facts = Mapping[str, str | int | float]
Results = Mapping[str, float]

# What is told of each step besides its number.
STEP_VALUES = ("loss", "accuracy", "learning_rate")

# The fact that names this training and no other of the same inputs: what it is found by where it was killed.
TRAINING = "training"

# What differs between two runs that are otherwise equal.
VOLATILE = frozenset(
    {"seconds", "images_per_second", "memory_mb", "device_memory_mb"}
    | {"feature_images", "feature_seconds", "linear_probe_seconds"}
)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a training depends on.

    Args:
        manifest: The images, as `vggflow.data.manifest` describes them.
        data_folder: What the manifest's paths are relative to.
        weights_folder: Where start weights that settings name are looked for.
        state_folder: Where features and checkpoints are kept.
        feature_limit_bytes: What the feature cache may take on disk, all trainings together.
    """

    settings: Settings
    manifest: pd.DataFrame
    data_folder: Path
    weights_folder: Path | None
    state_folder: Path
    feature_limit_bytes: int = 24 * 10**9


@dataclass(frozen=True)
class Trained:
    """A trained model, what it was made for, and one row per epoch of all phases.

    Each row holds phase, epoch (over all phases, from 1), loss, accuracy, val_loss, val_accuracy,
    learning_rate (of the last step), seconds, images_per_second (of training alone) and memory_mb (anonymous
    memory). `facts` were known before the first image was read: device, images, parameters. `results` were found
    on the way: accuracy of the linear probe and of the model on valid, images computed, temperature.
    """

    model: "keras.Model"
    info: ModelInfo
    history: list[Row]
    facts: dict[str, str | int | float] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)


class Observer(Protocol):
    """Who is told what happens; `run_id` names the tracking run and travels with the checkpoint."""

    run_id: str | None

    def on_resume(self, run_id: str | None, rows: Sequence[Row], steps: Sequence[Row]) -> None:
        """Before `on_start`, where a checkpoint goes on: its run, and the epochs and steps that it holds already.

        A step's row has its number and `STEP_VALUES`.
        """

    def on_start(self, facts: Facts) -> None:
        """Before the first image is read: device, images, parameters. `run_id` is set when this returns."""

    def on_features(self, done: int, total: int) -> None:
        """Images that went through the frozen layers so far, of those that were not in the cache."""

    def on_step(self, done: int, total: int, row: Row) -> None:
        """After each step of an epoch: phase, epoch, step (over all epochs, from 1), learning_rate, and loss
        and accuracy as means of the epoch so far."""

    def on_epoch(self, row: Row) -> None:
        """After each epoch, its checkpoint written. After a kill, epochs and steps that were reported before
        are reported again, with equal values."""

    def on_end(self, results: Results) -> None:
        """At the end: what was found on the way."""


class SilentObserver:
    """Listens and does nothing; a base for observers that care about some of it."""

    run_id: str | None = None

    def on_resume(self, run_id: str | None, rows: Sequence[Row], steps: Sequence[Row]) -> None:  # noqa: ARG002
        """Continues the run that the checkpoint names."""
        self.run_id = run_id

    def on_start(self, facts: Facts) -> None:
        """Does nothing."""

    def on_features(self, done: int, total: int) -> None:
        """Does nothing."""

    def on_step(self, done: int, total: int, row: Row) -> None:
        """Does nothing."""

    def on_epoch(self, row: Row) -> None:
        """Does nothing."""

    def on_end(self, results: Results) -> None:
        """Does nothing."""
