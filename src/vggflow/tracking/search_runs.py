"""A search in MLflow: one run, and below it one for each trial, with the names that trainings use."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from vggflow.errors import VggflowError
from vggflow.search.study import Study, Trial
from vggflow.settings import Settings
from vggflow.tracking import limits, logged_settings, runs
from vggflow.tracking.connection import experiment_id, mlflow_errors_as_one_line
from vggflow.tracking.metric_writer import BATCH

SEARCH, TRIAL = "search", "search-trial"
KEY_TAG, TRIAL_TAG = "vggflow.search", "vggflow.trial"
PARAMS_OF_A_BATCH = 100  # MLflow's limit in one request
SECONDS_TO_WAIT_AT_END = 600.0
# Of an epoch these are no figures of it.
NOT_METRICS = ("phase", "epoch")


class SearchRuns:
    """Writes trials into runs, in a thread of its own: a server that is slow or away stops no trial.

    Trials that an earlier process wrote whole are not written again; what it left half is replaced.
    """

    def __init__(self, client: MlflowClient, settings: Settings, key: str, name: str) -> None:
        """The search's run, the one of `key` where there is one.

        Args:
            key: Names all that the search depends on.
        """
        self._client = client
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trials")
        self._writing: list[Any] = []
        self._place = experiment_id(client, settings.registry.experiment)
        with mlflow_errors_as_one_line():
            found = client.search_runs([self._place], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        if found:
            self.run_id = str(found[0].info.run_id)
            runs.resume_run(client, self.run_id)
        else:
            tags = {"stage": SEARCH, KEY_TAG: key}
            self.run_id = runs.open_run(client, self._place, f"{name} · search", tags)
            runs.log_facts(client, self.run_id, logged_settings.flat(settings), {})
        self._whole, self._half = self._written()

    def trial(self, study: Study, trial: Trial, settings: Settings) -> None:
        """Takes a trial that is over."""
        name = f"{study.name} {trial.number}"
        if name not in self._whole:
            self._whole.add(name)
            self._writing.append(self._thread.submit(self._write, name, trial, settings))

    def close(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        """Waits until all trials are written, adds what came of the search, and ends its run.

        Raises:
            VggflowError: MLflow did not take them all; the same command writes what is missing.
        """
        end = time.monotonic() + SECONDS_TO_WAIT_AT_END
        try:
            for each in self._writing:
                each.result(max(0.0, end - time.monotonic()))
        except NotInTime:
            raise VggflowError(
                f"trials did not reach MLflow run {self.run_id} in {SECONDS_TO_WAIT_AT_END:.0f} s: see that the "
                "server answers, then run the same command again"
            ) from None
        runs.log_numbers(self._client, self.run_id, numbers)
        runs.log_files(self._client, self.run_id, files, SEARCH)
        runs.end_run(self._client, self.run_id)

    def give_up(self) -> None:
        """Ends the run of a search that did not come to its end; what waits is written the next time."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        ending = ThreadPoolExecutor(1)
        # Not waited for for long: the server may be why.
        ending.submit(runs.end_run, self._client, self.run_id, "KILLED")
        ending.shutdown(wait=False)

    def _write(self, name: str, trial: Trial, settings: Settings) -> None:
        with mlflow_errors_as_one_line():
            for half in self._half.pop(name, ()):
                self._client.delete_run(half)
            tags = {
                "stage": TRIAL,
                TRIAL_TAG: name,
                "trial.state": trial.state,
                MLFLOW_PARENT_RUN_ID: self.run_id,
            }
            run_id = runs.open_run(self._client, self._place, name, tags)
            params = [
                Param(key, value[: limits.PARAM]) for key, value in logged_settings.flat(settings).items()
            ]
            metrics = _metrics(trial)
            self._client.log_batch(run_id, metrics[:BATCH], params[:PARAMS_OF_A_BATCH])
            for start in range(BATCH, len(metrics), BATCH):
                self._client.log_batch(run_id, metrics[start : start + BATCH])
            for start in range(PARAMS_OF_A_BATCH, len(params), PARAMS_OF_A_BATCH):
                self._client.log_batch(run_id, params=params[start : start + PARAMS_OF_A_BATCH])
            # Last: a run that is not finished is half a trial.
            self._client.set_terminated(run_id, "FINISHED")

    def _written(self) -> tuple[set[str], dict[str, list[str]]]:
        """The trials that are written whole, and the runs of those that are not."""
        whole: set[str] = set()
        half: dict[str, list[str]] = {}
        token: str | None = None
        while True:
            with mlflow_errors_as_one_line():
                page = self._client.search_runs(
                    [self._place],
                    f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}'",
                    max_results=BATCH,
                    page_token=token,
                )
            for run in page:
                name = str(run.data.tags.get(TRIAL_TAG, ""))
                if run.info.status == "FINISHED":
                    whole.add(name)
                else:
                    half.setdefault(name, []).append(str(run.info.run_id))
            token = page.token
            if not token:
                return whole, half


def _metrics(trial: Trial) -> list[Metric]:
    """Each epoch's figures, and at the end those of the epoch that counts, which MLflow's tables then show."""
    now = int(time.time() * 1000)
    found = [
        Metric(key, float(value), now, int(row["epoch"]))
        for row in trial.rows
        for key, value in row.items()
        if key not in NOT_METRICS
    ]
    last = {"best/val_loss": trial.loss, "best/val_accuracy": trial.accuracy, "trial_seconds": trial.seconds}
    return found + [Metric(key, value, now, 0) for key, value in last.items() if value is not None]
