"""Phases of fine-tuning on a concrete network: what is frozen, where it is cut, which rate each step has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from vggflow.errors import SettingsError
from vggflow.models.builder import frozen_layers
from vggflow.models.cut import cheapest_cut
from vggflow.settings import Phase
from vggflow.training.job import Row


@dataclass(frozen=True)
class Plan:
    """A phase on a network: the names of the layers that learn, and the layer after which it is cut."""

    phase: Phase
    learning: tuple[str, ...]
    cut: str | None


def plan(model: keras.Model, phases: Sequence[Phase]) -> list[Plan]:
    """What each phase means for this network.

    Raises:
        SettingsError: a phase names no layer of the network, or leaves nothing to learn.
    """
    return [_plan(model, phase) for phase in phases]


def _plan(model: keras.Model, phase: Phase) -> Plan:
    frozen = frozen_layers(model, phase.freeze_through)
    names = {layer.name for layer in frozen}
    learning = tuple(layer.name for layer in model.layers if layer.name not in names and layer.variables)
    # By weights: a layer that only draws random numbers has variables and learns nothing.
    if not any(model.get_layer(name).weights for name in learning):
        raise SettingsError(
            f"phase {phase.name}: freeze_through {phase.freeze_through} leaves nothing to learn; "
            "name an earlier layer"
        )
    return Plan(phase, learning, cheapest_cut(model, frozen))


def freeze(model: keras.Model, learning: Sequence[str]) -> None:
    """Lets exactly the named layers learn."""
    for layer in model.layers:
        layer.trainable = layer.name in learning


def optimizer(phase: Phase, rate: Any) -> keras.optimizers.Optimizer:
    """A fresh optimizer for a phase; `rate` is a number or one of Keras' schedules."""
    kinds = {
        "adam": lambda: keras.optimizers.Adam(rate),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate),
    }
    return kinds[phase.optimizer]()


def schedule(phase: Phase, steps_per_epoch: int) -> Any:
    """The phase's learning rate, as a number or as one of Keras' schedules."""
    if phase.schedule == "constant":
        return phase.learning_rate
    return keras.optimizers.schedules.CosineDecay(phase.learning_rate, phase.epochs * steps_per_epoch)


def learning_rate(phase: Phase, step: int, steps_per_epoch: int) -> float:
    """The rate of a step of the phase, counted from 0: what the optimizer uses, without asking it."""
    if phase.schedule == "constant":
        return phase.learning_rate
    done = min(1.0, step / (phase.epochs * steps_per_epoch))
    return phase.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def improves(phase: Phase, row: Row, best: float | None) -> bool:
    """Whether an epoch is better than the best one so far, by the phase's monitor."""
    value = float(row[phase.monitor])
    if best is None:
        return not math.isnan(value)
    margin = phase.early_stopping.min_delta if phase.early_stopping else 0.0
    return value > best + margin if phase.monitor.endswith("accuracy") else value < best - margin


def is_over(phase: Phase, epochs: int, stale: int) -> bool:
    """Whether the phase ends after so many epochs, of which the last `stale` were not better than one before them."""
    if phase.early_stopping is not None and stale >= phase.early_stopping.patience:
        return True
    return epochs >= phase.epochs
