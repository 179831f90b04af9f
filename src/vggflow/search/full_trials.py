"""Trials that need the network: normal trainings of all phases, whose models are thrown away."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from vggflow.errors import SettingsError
from vggflow.features.compute import Report
from vggflow.search.study import Diverged
from vggflow.settings import Settings
from vggflow.training.checkpoints import Checkpoints
from vggflow.training.fitting import fit
from vggflow.training.job import Facts, Row, SilentObserver, TrainingJob
from vggflow.training.preparation import CHECKPOINTS

Stop = Callable[[Row], bool]


class _Stopped(Exception):
    """The trial is hopeless."""


class FullTraining:
    """One training, which goes on from its checkpoint where it was killed; `forget` it once its trial is kept."""

    def __init__(self, job: TrainingJob, settings: Settings, report: Report) -> None:
        self._job = replace(job, settings=settings)
        self._watch = _Watch(report)

    def run(self, stop: Stop) -> list[Row]:
        """A row for each epoch of all phases, up to one where `stop` says so.

        Raises:
            Diverged: numbers are not finite any more.
            DataError: an image is gone or another one.
        """
        self._watch.stop = stop
        with suppress(_Stopped):
            try:
                fit(self._job, self._watch)
            except SettingsError as error:
                # Of settings that fit nothing there is no epoch, and nothing to learn from.
                if not self._watch.began:
                    raise
                raise Diverged(self._watch.rows) from error
        return self._watch.rows

    def forget(self) -> None:
        """Removes its checkpoint."""
        if self._watch.inputs:
            Checkpoints(self._job.state_folder / CHECKPOINTS / self._watch.inputs).discard()


class _Watch(SilentObserver):
    """Takes the epochs, those of an earlier process too, and ends the training where it is hopeless."""

    def __init__(self, report: Report) -> None:
        self.rows: list[Row] = []
        self.inputs = ""
        self.began = False
        self.stop: Stop = lambda _row: False
        self._report = report
        self._before: Sequence[Row] = ()

    def on_resume(self, run_id: str | None, rows: Sequence[Row], steps: Sequence[Row]) -> None:
        super().on_resume(run_id, rows, steps)
        self._before = rows

    def on_start(self, facts: Facts) -> None:
        self.inputs, self.began = str(facts["inputs"]), True
        for row in self._before:
            self.on_epoch(row)

    def on_features(self, done: int, total: int) -> None:
        self._report(done, total)

    def on_epoch(self, row: Row) -> None:
        self.rows.append(row)
        if self.stop(row):
            raise _Stopped
