"""The trials of a search: which values come next, by Optuna, and what came of those before, kept in a file.

A trial is kept when it is over, in one transaction: one that was killed is not there, and since the values of a trial
follow from the seed, its number and the trials before it, the next process draws the very same again.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from vggflow.errors import VggflowError
from vggflow.search.space import Choices, Values, rounded
from vggflow.settings import Plain, Range, SearchSettings
from vggflow.training.job import Row

State = Literal["complete", "pruned", "diverged"]

# So many are drawn at random before TPE has something to go by; Optuna's own figures.
RANDOM_TRIALS = 10
TRIALS_BEFORE_PRUNING = 5
# After so many draws of what was tried before, the space is taken for exhausted.
DRAWS_OF_THE_SAME = 50
# The first epochs say little of the last one.
EPOCHS_BEFORE_PRUNING = 2
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "diverged": TrialState.PRUNED}


class Diverged(Exception):
    """A trial's numbers are not finite any more; `rows` are its epochs before that."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self.rows = list(rows)


@dataclass(frozen=True)
class Trial:
    """A trial that is over: what was tried, and an epoch's row each of how it went.

    Attributes:
        value: The metric that the search goes by, of the epoch that was best; None where there was none.
        loss: Of valid, in that epoch; likewise `accuracy`.
        seconds: What it took.
    """

    number: int
    state: State
    values: Values
    value: float | None
    loss: float | None
    accuracy: float | None
    seconds: float
    rows: Sequence[Row] = field(repr=False, default=())


class Asked:
    """A trial that is under way."""

    def __init__(self, number: int, values: Values, trial: optuna.Trial | None) -> None:
        self.number = number
        self.values = values
        self.trial = trial

    def is_hopeless(self, value: float, epoch: int) -> bool:
        """Takes the metric after an epoch (from 1); whether it is worse than half of the trials before were then."""
        if self.trial is None:
            return False
        self.trial.report(value, epoch)
        return self.trial.should_prune()


class Study:
    """Trials of one space, in a file that Optuna's own tools read."""

    def __init__(
        self,
        path: Path,
        name: str,
        space: Mapping[str, Choices],
        settings: SearchSettings,
        planned: Sequence[Values],
    ) -> None:
        """A new study, or what an earlier process left of it.

        Args:
            planned: What is tried first, in this order, before anything is drawn.
        """
        self.name = name
        self.space = space
        self.settings = settings
        self._planned = planned
        self._distributions = {key: _distribution(choices, planned[0][key]) for key, choices in space.items()}
        self._sign = 1 if settings.metric.endswith("loss") else -1
        direction: Literal["minimize", "maximize"] = "minimize" if self._sign == 1 else "maximize"
        with _quiet(), _explaining(path):
            self._kept = optuna.create_study(
                storage=f"sqlite:///{path}", study_name=name, direction=direction, load_if_exists=True
            )
            self._study = optuna.create_study(direction=direction, pruner=_pruner())
            self._study.add_trials(self._kept.get_trials(deepcopy=False))
            self.trials = [_read(number, kept) for number, kept in enumerate(self._study.trials)]
        self._path = path

    def ask(self) -> Asked | None:
        """The next trial, whose values follow from what was tried before; none where nothing else is left to try."""
        number = len(self.trials)
        if number < len(self._planned):
            return self._ask_planned(number)
        tried = [dict(trial.values) for trial in self.trials]
        for attempt in range(DRAWS_OF_THE_SAME):
            trial = self._draw(number, attempt)
            values = {name: rounded(value) for name, value in trial.params.items()}
            if values not in tried:
                return Asked(number, values, trial)
            # What comes of it is known: such a trial counts for nothing.
            with _quiet():
                self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _ask_planned(self, number: int) -> Asked:
        values = self._planned[number]
        if not self._holds(values):
            return Asked(number, values, None)
        with _quiet():
            self._study.enqueue_trial(dict(values))
        return Asked(number, values, self._draw(number, 0))

    def _draw(self, number: int, attempt: int) -> optuna.Trial:
        with _quiet():
            self._study.sampler = optuna.samplers.TPESampler(
                seed=_seed(self.settings.seed, self.name, number, attempt), n_startup_trials=RANDOM_TRIALS
            )
            return self._study.ask(self._distributions)

    def tell(self, asked: Asked, trial: Trial) -> None:
        """Keeps a trial that is over."""
        attributes = {"trial": {**vars(trial), "values": dict(trial.values), "rows": list(trial.rows)}}
        with _quiet():
            if asked.trial is None:
                # Outside of the space: something to compare with, and nothing to draw conclusions from.
                kept = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=attributes)
                self._study.add_trial(kept)
            else:
                asked.trial.set_user_attr("trial", attributes["trial"])
                value = trial.value if trial.state == "complete" else None
                kept = self._study.tell(asked.trial, value, STATES[trial.state])
            with _explaining(self._path):
                self._kept.add_trial(kept)
        self.trials.append(trial)

    def best(self) -> Trial | None:
        """The complete trial with the best metric; of equal ones the first."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return min(complete, key=lambda trial: self._sign * (trial.value or 0.0), default=None)

    def is_better(self, one: Trial, other: Trial) -> bool:
        """Whether a trial has a better metric than another; both have one."""
        return self._sign * (one.value or 0.0) < self._sign * (other.value or 0.0)

    def importance(self) -> dict[str, float]:
        """How much of the metric's differences each setting explains, 0 to 1, the largest first.

        By PED-ANOVA (Watanabe, Bansal and Hutter, arXiv:2304.10255); empty where too few trials are complete.
        """
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if len(complete) < RANDOM_TRIALS or len(self.space) < 2:
            return {}
        with _quiet():
            found = optuna.importance.get_param_importances(self._study)
        return {name: float(share) for name, share in found.items()}

    def _holds(self, values: Values) -> bool:
        return all(
            _contains(distribution, values[name]) for name, distribution in self._distributions.items()
        )


def _pruner() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(
        n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=EPOCHS_BEFORE_PRUNING
    )


def _distribution(choices: Choices, now: Plain) -> BaseDistribution:
    if not isinstance(choices, Range):
        return CategoricalDistribution(choices)
    log = choices.scale == "log"
    if isinstance(now, int):
        return IntDistribution(int(choices.low), int(choices.high), log=log)
    return FloatDistribution(choices.low, choices.high, log=log)


def _contains(distribution: BaseDistribution, value: Plain) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return distribution.low <= float(value) <= distribution.high
    return False


def _seed(seed: int, name: str, number: int, attempt: int) -> int:
    """Of its own for each trial: so it does not matter how many were drawn in this process before."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name} {number} {attempt}".encode()).digest()[:4], "big")


def _read(number: int, kept: optuna.trial.FrozenTrial) -> Trial:
    told: dict[str, Any] = kept.user_attrs["trial"]
    return Trial(**{**told, "number": number, "rows": tuple(told["rows"])})


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turns what the database says of its file into one line."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, KeyError, TypeError) as error:
        cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
        said = " ".join(str(cause).split())[:200]
        raise VggflowError(
            f"the trials in {path} can't be read or kept ({said}): see that there is room; where the file is "
            "damaged remove it, and the search starts afresh"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's own lines about each trial, and its warnings about what is experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def count_all(path: Path) -> int:
    """The trials of all studies in a file, also of those that were given up for a better start."""
    with _quiet(), _explaining(path):
        return sum(each.n_trials for each in optuna.study.get_all_study_summaries(f"sqlite:///{path}"))
