"""A search: first the settings of the first phase, on cached features, then those of whole trainings."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vggflow.data import manifest as manifests
from vggflow.models.cut import BLOCK_ENDS
from vggflow.processes.locks import exclusive
from vggflow.search import space as spaces
from vggflow.search.cached_trials import CachedTrials, NotCached
from vggflow.search.full_trials import FullTraining
from vggflow.search.space import Choices, Space, Values
from vggflow.search.study import Asked, Diverged, State, Study, Trial, count_all
from vggflow.settings import Phase, Plain, Settings
from vggflow.training import checkpoints, phases
from vggflow.training.checkpoints import LOCKS
from vggflow.training.job import Row, TrainingJob
from vggflow.training.preparation import set_up

FOLDER = "searches"
FILE = "study.db"
# The names of the two studies in it.
FIRST_PHASE, WHOLE = "first phase", "whole training"
# Whether a whole training has the first phase as the settings say, or as the first study found it.
FIRST_PHASE_AS = "first phase"
AS_IT_WAS, AS_FOUND = "as it was", "as found"
# Cuts in the order of what a training behind them costs; what is not among them costs more.
CHEAPEST_FIRST = BLOCK_ENDS[::-1]


@dataclass(frozen=True)
class Budget:
    """How much to try: trials of the first phase on cached features, whole trainings, and minutes in all."""

    trials: int
    network_trials: int
    minutes: float | None = None


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes:
        settings: As they are.
        first, whole: The studies, where there were such trials.
        best: The trial that counts, and `best_settings` what it was trained with; likewise `default`, as they are.
        linear_probe: Accuracy on valid of a linear classifier on the frozen layers, where it could be asked.
        images: How many images of valid there are.
        key: Names what the search depends on.
        trials: How many there were in all, also of a first phase that is not the best one any more.
        complete: Whether time was enough for all trials.
    """

    settings: Settings
    first: Study | None
    whole: Study | None
    best: Trial | None
    best_settings: Settings
    default: Trial | None
    linear_probe: float | None
    images: int
    key: str
    trials: int
    complete: bool

    @property
    def studies(self) -> list[Study]:
        """The studies that there are."""
        return [study for study in (self.first, self.whole) if study is not None]

    @property
    def first_phase_alone_is_better(self) -> bool:
        """Whether the later phases made worse what the first one had reached."""
        first = self.first.best() if self.first else None
        whole = self.whole.best() if self.whole else None
        if self.first is None or first is None or whole is None:
            return False
        return self.first.is_better(first, whole)

    @property
    def changes(self) -> dict[str, Plain]:
        """The settings that the best trial has otherwise, by their names."""
        names = [name for study in self.studies for name in study.space if name != FIRST_PHASE_AS]
        now = {name: spaces.value(self.settings, name) for name in names}
        then = {name: spaces.value(self.best_settings, name) for name in names}
        return {name: then[name] for name in names if then[name] != now[name]}


class Observer(Protocol):
    """Who is told how a search goes."""

    def on_start(self, key: str) -> None:
        """Before the first trial; `key` names all that the search depends on."""

    def on_features(self, done: int, total: int) -> None:
        """Images of a feature pass."""

    def on_trial(self, study: Study, trial: Trial, settings: Settings) -> None:
        """A trial is over and kept; those of an earlier process are told first."""


def search(job: TrainingJob, budget: Budget, observer: Observer) -> Found:
    """Tries settings, going on where an earlier search of the same inputs stopped.

    Raises:
        DataError: images are missing, or changed since the manifest was made.
        SettingsError: `search.space` names what can't be varied, or the settings don't fit network or machine.
        WeightsError: the start weights are missing or don't fit.
    """
    return _Search(job, budget, observer).run()


class _Search:
    def __init__(self, job: TrainingJob, budget: Budget, observer: Observer) -> None:
        self._job = job
        self._budget = budget
        self._observer = observer
        self._settings = job.settings
        self._end = time.monotonic() + 60 * budget.minutes if budget.minutes is not None else None
        self._out_of_time = False

    def run(self) -> Found:
        images = len(manifests.labelled(self._job.manifest, "train"))
        space = spaces.space(self._settings, images)
        setup = set_up(self._job)
        settings = self._settings.search
        key = checkpoints.key(
            {
                "training": setup.checkpoints.folder.name,
                "space": {
                    name: str(choices) for name, choices in (*space.first.items(), *space.later.items())
                },
                "seed": settings.seed,
                "metric": settings.metric,
            }
        )
        folder = self._job.state_folder / FOLDER / key
        lock = self._job.state_folder / LOCKS / f"search-{key}.lock"
        with exclusive(lock, f"the same search: its trials are in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            self._observer.on_start(key)
            return self._in(folder, key, space, len(setup.valid))

    def _in(self, folder: Path, key: str, space: Space, images: int) -> Found:
        path = folder / FILE
        first, probe, varied = None, None, dict(space.later)
        if space.first:
            try:
                first, probe = self._first_phase(path, space.first)
            except NotCached:
                varied = {**space.first, **varied}
        whole = self._whole(path, first, varied)
        last = whole or first
        best, default = (last.best(), last.trials[0] if last.trials else None) if last else (None, None)
        settings = self._settings if best is None else self._of(best.values, first)
        return Found(
            self._settings,
            first,
            whole,
            best,
            settings,
            default,
            probe,
            images,
            key,
            count_all(path),
            not self._out_of_time,
        )

    def _first_phase(self, path: Path, space: Mapping[str, Choices]) -> tuple[Study, float]:
        job = self._job
        if not self._budget.network_trials:
            # Features that only later phases read need not be computed.
            train = job.settings.train
            one = train.model_copy(update={"phases": train.phases[:1]})
            job = replace(job, settings=job.settings.model_copy(update={"train": one}))
        planned = [spaces.present(self._settings, space)]
        study = Study(path, FIRST_PHASE, space, self._settings.search, planned)
        with CachedTrials(job, space, self._observer.on_features) as trials:

            def work(settings: Settings, stop: Callable[[Row], bool]) -> "_Work":
                return _Work(lambda: trials.run(settings, stop))

            self._try(study, self._budget.trials, lambda values: self._of(values, None), work)
            return study, trials.linear_probe()

    def _whole(self, path: Path, first: Study | None, varied: Mapping[str, Choices]) -> Study | None:
        found = first.best() if first else None
        space = dict(varied)
        if first and found and found.number:
            space[FIRST_PHASE_AS] = (AS_IT_WAS, AS_FOUND)
        later = len(self._settings.train.phases) > 1
        if not self._budget.network_trials or not space or (first is not None and not later):
            return None
        # With another first phase these would be other trials.
        name = (
            f"{WHOLE}, {FIRST_PHASE} of trial {found.number}" if FIRST_PHASE_AS in space and found else WHOLE
        )
        study = Study(path, name, space, self._settings.search, self._planned(space))

        def work(settings: Settings, stop: Callable[[Row], bool]) -> "_Work":
            training = FullTraining(self._job, settings, self._observer.on_features)
            return _Work(lambda: training.run(stop), training.forget)

        self._try(study, self._budget.network_trials, lambda values: self._of(values, first), work)
        return study

    def _planned(self, space: Mapping[str, Choices]) -> list[dict[str, Plain]]:
        """The settings as they are, then with the first phase as found, then with other cuts, the cheapest first."""
        names = {name: choices for name, choices in space.items() if name != FIRST_PHASE_AS}
        now = spaces.present(self._settings, names)
        asked = FIRST_PHASE_AS in space
        planned = [now | ({FIRST_PHASE_AS: AS_IT_WAS} if asked else {})]
        if asked:
            planned.append(now | {FIRST_PHASE_AS: AS_FOUND})
        for name, choices in names.items():
            if name.endswith(".freeze_through") and isinstance(choices, tuple):
                others = sorted((each for each in choices if each != now[name]), key=_cost)
                planned += [planned[-1] | {name: each} for each in others]
        return planned

    def _of(self, values: Values, first: Study | None) -> Settings:
        """The settings that a trial is trained with."""
        found = first.best() if first else None
        # Without that question: a first phase that was best as it is.
        if found and values.get(FIRST_PHASE_AS) == AS_FOUND:
            values = {**found.values, **values}
        return spaces.with_values(
            self._settings, {name: value for name, value in values.items() if name != FIRST_PHASE_AS}
        )

    def _try(
        self,
        study: Study,
        count: int,
        settings_of: Callable[[Values], Settings],
        work: Callable[[Settings, Callable[[Row], bool]], "_Work"],
    ) -> None:
        """Trials until there are so many, or the time is over; the first one is done in any case."""
        for trial in study.trials:
            self._observer.on_trial(study, trial, settings_of(trial.values))
        while len(study.trials) < count:
            if self._end is not None and time.monotonic() > self._end and study.trials:
                self._out_of_time = True
                return
            asked = study.ask()
            if asked is None:
                return
            settings = settings_of(asked.values)
            watch = _Hopeless(asked, self._settings, study)
            under_way = work(settings, watch)
            trial = _trial(asked, settings, self._settings.search.metric, under_way.run, watch)
            study.tell(asked, trial)
            under_way.forget()
            self._observer.on_trial(study, trial, settings)


@dataclass(frozen=True)
class _Work:
    run: Callable[[], list[Row]]
    forget: Callable[[], None] = lambda: None


class _Hopeless:
    """Says after each epoch that is compared whether the trial is to end."""

    def __init__(self, asked: Asked, settings: Settings, study: Study) -> None:
        self._asked = asked
        self._metric = settings.search.metric
        first, *later = settings.train.phases
        # Of whole trainings the first phase says little about what comes after it.
        compared = later if later and study.name != FIRST_PHASE else [first]
        self._phases = {phase.name for phase in compared}
        self._epochs = 0
        self.pruned = False

    def __call__(self, row: Row) -> bool:
        if row["phase"] in self._phases:
            self._epochs += 1
            self.pruned = self._asked.is_hopeless(float(row[self._metric]), self._epochs)
        return self.pruned


def _trial(
    asked: Asked, settings: Settings, metric: str, run: Callable[[], list[Row]], watch: _Hopeless
) -> Trial:
    started = time.monotonic()
    state: State = "complete"
    try:
        rows = run()
    except Diverged as error:
        state, rows = "diverged", error.rows
    if watch.pruned:
        state = "pruned"
    left = _left(rows, settings.train.phases)
    value, loss, accuracy = (
        (float(left[name]) if left else None) for name in (metric, "val_loss", "val_accuracy")
    )
    seconds = round(time.monotonic() - started, 3)
    return Trial(asked.number, state, asked.values, value, loss, accuracy, seconds, tuple(rows))


def _left(rows: Sequence[Row], of: Sequence[Phase]) -> Row | None:
    """The epoch whose weights the last phase leaves."""
    by_name = {phase.name: phase for phase in of}
    left: Row | None = None
    for row in rows:
        phase = by_name[str(row["phase"])]
        if (
            left is None
            or left["phase"] != phase.name
            or phases.improves(phase, row, float(left[phase.monitor]))
        ):
            left = row
    return left


def _cost(cut: Plain) -> int:
    return CHEAPEST_FIRST.index(str(cut)) if cut in CHEAPEST_FIRST else len(CHEAPEST_FIRST)
