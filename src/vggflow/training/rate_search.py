"""The learning-rate range test: a short training whose rate grows with every step (arXiv:1506.01186)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.errors import SettingsError
from vggflow.training.bar import FEATURES, Advance
from vggflow.training.job import TrainingJob
from vggflow.training.learner import Learner
from vggflow.training.precision import computing_in
from vggflow.training.preparation import Setup, set_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST_RATE, HIGHEST_RATE = 1e-7, 1.0
STEPS = 120  # 17 for each power of ten
# Beyond this multiple of the best loss the network has diverged, and the rest would teach nothing.
DIVERGED = 4.0
SMOOTHING = 0.9


@dataclass(frozen=True)
class RateCurve:
    """The smoothed loss after each step, the rate of that step, and the rate to train with."""

    phase: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_learning_rate(
    job: TrainingJob, phase: str | None = None, advance: Advance = lambda _done, _total, _note: None
) -> RateCurve:
    """Trains the first phase, or the one named, from the start weights with rates from 1e-7 to 1.

    Writes no checkpoint and no model; features that it computes stay in the cache. Tells `advance` how far it is.

    Raises:
        SettingsError: there is no such phase, or the start weights give no finite loss.
    """
    setup = set_up(job)
    number = _number(setup, phase)
    with setup.hardware.scope(), computing_in(setup.model, setup.hardware.policy):
        network, data = setup.learner_parts(number, lambda done, total: advance(done, total, FEATURES))
        learner = Learner(network, data, job.settings.train, setup.plans[number].phase, setup.hardware)
        # STEPS - 1: the first step has the lowest rate, the last one the highest.
        growing = keras.optimizers.schedules.ExponentialDecay(
            LOWEST_RATE, STEPS - 1, HIGHEST_RATE / LOWEST_RATE
        )
        watch = _Watch(lambda done: advance(done, STEPS, "steps"))
        learner.run(growing, STEPS, watch)
    if not watch.losses:
        raise SettingsError("the first loss is not a finite number: look at model.weights and the images")
    losses = _smooth(np.array(watch.losses))
    rates = LOWEST_RATE * (HIGHEST_RATE / LOWEST_RATE) ** (np.arange(len(losses)) / (STEPS - 1))
    name = setup.plans[number].phase.name
    return RateCurve(name, tuple(rates.tolist()), tuple(losses.tolist()), suggest(rates, losses))


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """A tenth of the rate at which the loss was lowest: there it still fell, and it is far from diverging.

    The place of the steepest fall, the other custom, moved by a factor of 10 with the noise of small data.
    """
    return float(f"{rates[int(losses.argmin())] / 10:.1e}")


def draw(curve: RateCurve) -> "Figure":
    """The curve with the suggested rate marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.rates, curve.losses)
    axes.axvline(
        curve.suggestion, linestyle="--", color="tab:orange", label=f"suggested {curve.suggestion:.1e}"
    )
    axes.set(
        xscale="log",
        xlabel="learning rate",
        ylabel="loss",
        title=f"Learning-rate range test: {curve.phase}, from the start weights",
    )
    axes.legend()
    return figure


def _number(setup: Setup, phase: str | None) -> int:
    names = [plan.phase.name for plan in setup.plans]
    if phase is None:
        return 0
    if phase not in names:
        raise SettingsError(f"no phase {phase} in params.yaml: expected one of {', '.join(names)}")
    return names.index(phase)


def _smooth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential moving average, corrected for its start at 0."""
    average, smoothed = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * float(loss)
        smoothed.append(average / (1 - SMOOTHING**step))
    return np.array(smoothed)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Takes the loss of each step out of Keras' mean over the steps so far, and stops where it diverges."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._report = report
        self._total = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # That can be undone since all batches here are equally large (`Learner.run`).
        total = (logs or {})["loss"] * (batch + 1)
        loss = total - self._total
        if not math.isfinite(loss) or (self.losses and loss > DIVERGED * min(self.losses)):
            self.model.stop_training = True
            return
        self._total = total
        self.losses.append(loss)
        self._report(len(self.losses))
