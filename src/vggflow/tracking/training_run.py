"""The MLflow run as the observer of a training."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from vggflow import console
from vggflow.errors import VggflowError
from vggflow.settings import Settings
from vggflow.tracking import logged_settings, runs, system_metrics
from vggflow.tracking.connection import experiment_id, mlflow_errors_as_one_line
from vggflow.tracking.metric_writer import SECONDS_TO_WAIT_AT_END, MetricWriter
from vggflow.training.bar import Bar
from vggflow.training.job import STEP_VALUES, TRAINING, Facts, Results, Row

# Less than a terminated process has; what has not arrived by then is told again when the training goes on.
SECONDS_TO_WAIT_EARLY = {"FAILED": 60.0, "KILLED": 3.0}
# Their table went up at the start, long ago but for the shortest trainings.
SECONDS_TO_WAIT_FOR_IMAGES = 60.0

TAG = "vggflow.training"


@dataclass(frozen=True)
class Origin:
    """What a training starts from beside its settings, which its run keeps too: few trainings become a version.

    Attributes:
        tags: As a version carries them (`registry.lineage.of_training`).
        images: The table of the images that are learned from; None leaves it out.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None


class TrainingRun:
    """Writes a training into one MLflow run, live, and moves the progress bar.

    Every epoch of all phases is a step of the same metrics; steps of an epoch go to `step/…`; results have step 0.
    """

    def __init__(
        self, client: MlflowClient, settings: Settings, name: str, bar: Bar, origin: Origin | None = None
    ) -> None:
        self.run_id: str | None = None
        self._client = client
        self._settings = settings
        self._name = name
        self._bar = bar
        self._origin = origin or Origin()
        self._writer: MetricWriter | None = None
        self._images: threading.Thread | None = None
        self._watching = ExitStack()
        self._before: tuple[Sequence[Row], Sequence[Row]] = ((), ())

    def on_resume(self, run_id: str | None, rows: Sequence[Row], steps: Sequence[Row]) -> None:
        """Goes on in the run that the checkpoint names, where this server has it."""
        if run_id and runs.exists(self._client, run_id):
            self.run_id = run_id
            runs.resume_run(self._client, run_id)
        self._before = (rows, steps)

    def on_start(self, facts: Facts) -> None:
        """Opens the run, writes settings, origin and device into it, and what a resumed training did before.

        Of that, only what did not arrive then is sent: the process may have been killed before it could send it.
        """
        if self.run_id is None:
            self.run_id = self._find_or_open(str(facts[TRAINING]))
        rows, steps = self._before
        tags = {"device": str(facts["device"])} | ({"resumed_after_epochs": str(len(rows))} if rows else {})
        params = {**logged_settings.flat(self._settings), **facts}
        runs.log_facts(self._client, self.run_id, params, {**self._origin.tags, **tags})
        self._images = threading.Thread(target=self._upload_images, args=(self.run_id,), daemon=True)
        self._images.start()
        self._writer = MetricWriter(self._client, self.run_id)
        self._watching.enter_context(system_metrics.watching(self._writer))
        for step in steps:
            self._log_step(step)
        for row in rows:
            self.on_epoch(row)

    def _upload_images(self, run_id: str) -> None:
        """Beside the training, which needs no store before its model is uploaded."""
        try:
            if self._origin.images:
                runs.log_files(self._client, run_id, [self._origin.images], runs.TRAINED_ON)
        except VggflowError as error:
            console.tell(f"the run lacks the table of the images that were learned from: {error}")

    def _find_or_open(self, training: str) -> str:
        """The run that this training opened before it was killed, else a new one."""
        place = experiment_id(self._client, self._settings.registry.experiment)
        with mlflow_errors_as_one_line():
            found = self._client.search_runs([place], f"tags.`{TAG}` = '{training}'", max_results=1)
        if not found:
            return runs.open_run(self._client, place, self._name, {"stage": "train", TAG: training})
        run_id = str(found[0].info.run_id)
        runs.resume_run(self._client, run_id)
        return run_id

    def on_features(self, done: int, total: int) -> None:
        """Moves the bar."""
        self._bar.features(done, total)

    def on_step(self, done: int, total: int, row: Row) -> None:
        """Writes the step and moves the bar."""
        self._log_step(row)
        self._bar.step(done, total, row)

    def on_epoch(self, row: Row) -> None:
        """Writes the numbers of an epoch."""
        values = {
            key: float(value) for key, value in row.items() if not isinstance(value, str) and key != "epoch"
        }
        self._log(values, int(row["epoch"]))
        self._bar.epoch(row)

    def on_end(self, results: Results) -> None:
        """Writes what was found on the way."""
        self._log(results, 0)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Waits for the last points in the end and closes the run as FINISHED, FAILED or KILLED."""
        try:
            yield
        except BaseException as error:
            # SIGTERM and Ctrl-C are no failure: a checkpoint is there, so the run goes on later.
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            # In a thread: MLflow's client repeats for longer than this process may live.
            closing = threading.Thread(target=self._try_to_close, args=(status,), daemon=True)
            closing.start()
            closing.join(SECONDS_TO_WAIT_EARLY[status])
            raise
        self._close("FINISHED", SECONDS_TO_WAIT_AT_END)

    def _try_to_close(self, status: str) -> None:
        with suppress(VggflowError):
            self._close(status, SECONDS_TO_WAIT_EARLY[status])

    def _close(self, status: str, seconds: float) -> None:
        # First, since its samples go through the writer.
        self._watching.close()
        if self._images and status == "FINISHED":
            self._images.join(SECONDS_TO_WAIT_FOR_IMAGES)
        if self._writer:
            self._writer.close(seconds)
        if self.run_id:
            runs.end_run(self._client, self.run_id, status)

    def _log_step(self, row: Row) -> None:
        self._log({f"step/{key}": float(row[key]) for key in STEP_VALUES}, int(row["step"]))

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if self._writer:
            self._writer.log(values, step)
