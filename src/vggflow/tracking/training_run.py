"""The MLflow run as the observer of a training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mlflow import MlflowClient

from vggflow.console import Advance
from vggflow.settings import Settings
from vggflow.tracking import runs
from vggflow.tracking.connection import experiment_id
from vggflow.tracking.runs import SECONDS_TO_WAIT_AT_END, MetricWriter
from vggflow.training.job import Facts, Row

SECONDS_TO_WAIT_WHEN_KILLED = 2.0


class TrainingRun:
    """Writes a training into one MLflow run, live, and moves the progress bar.

    Every epoch of all phases is a step of the same metrics; steps of an epoch go to `step/…`.
    """

    def __init__(self, client: MlflowClient, settings: Settings, name: str, advance: Advance) -> None:
        self.run_id: str | None = None
        self._client = client
        self._settings = settings
        self._name = name
        self._advance = advance
        self._writer: MetricWriter | None = None
        self._before: Sequence[Row] = ()

    def on_resume(self, run_id: str | None, rows: Sequence[Row]) -> None:
        """Goes on in the run that the checkpoint names, where this server has it; else its epochs are told again."""
        if run_id and runs.exists(self._client, run_id):
            self.run_id = run_id
            runs.resume_run(self._client, run_id)
        self._before = rows

    def on_start(self, facts: Facts) -> None:
        """Opens the run and writes settings and device into it."""
        if self.run_id is None:
            place = experiment_id(self._client, self._settings.registry.experiment)
            self.run_id = runs.open_run(self._client, place, self._name, {"stage": "train"})
        runs.log_facts(
            self._client, self.run_id, {**_flat(self._settings), **facts}, {"device": str(facts["device"])}
        )
        self._writer = MetricWriter(self._client, self.run_id)
        for row in self._before:
            self.on_epoch(row)

    def on_features(self, done: int, total: int) -> None:
        """Moves the bar."""
        self._advance(done, total, "images through the frozen layers")

    def on_step(self, done: int, total: int, row: Row) -> None:
        """Writes the step and moves the bar."""
        values = {f"step/{key}": float(row[key]) for key in ("loss", "accuracy", "learning_rate")}
        self._log(values, int(row["step"]))
        note = f"{row['phase']}, epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.3f}"
        self._advance(done, total, note)

    def on_epoch(self, row: Row) -> None:
        """Writes the numbers of an epoch."""
        values = {
            key: float(value) for key, value in row.items() if not isinstance(value, str) and key != "epoch"
        }
        self._log(values, int(row["epoch"]))

    def on_end(self, facts: Facts) -> None:
        """Writes what is known at the end only."""
        if self.run_id:
            runs.log_facts(self._client, self.run_id, facts, {})

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Waits for the last points in the end and closes the run as FINISHED, FAILED or KILLED."""
        try:
            yield
        except Exception:
            self._close("FAILED")
            raise
        except BaseException:  # SIGTERM and Ctrl-C: a checkpoint is there, so the run goes on later
            self._close("KILLED", SECONDS_TO_WAIT_WHEN_KILLED)
            raise
        self._close("FINISHED")

    def _close(self, status: str, seconds: float = SECONDS_TO_WAIT_AT_END) -> None:
        if self._writer:
            self._writer.close(seconds)
        if self.run_id:
            runs.end_run(self._client, self.run_id, status)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if self._writer:
            self._writer.log(values, step)


def _flat(settings: Settings) -> dict[str, str]:
    """`model` and `train` as MLflow parameters: `train.batch_size`, `train.phases.head.epochs`."""
    found: dict[str, str] = {}
    phases = {phase.name: phase.model_dump() for phase in settings.train.phases}
    sections = {
        "model": settings.model.model_dump(),
        "train": settings.train.model_dump(exclude={"phases"}) | {"phases": phases},
    }
    _flatten(sections, "", found)
    return found


def _flatten(content: Mapping[str, object], prefix: str, found: dict[str, str]) -> None:
    for key, value in content.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key}.", found)
        elif value is not None:
            found[f"{prefix}{key}"] = str(value)
