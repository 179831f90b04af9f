"""Metric points on their way into a run, sent from a thread of its own: a server that is away stops nobody."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from vggflow.errors import VggflowError
from vggflow.tracking.connection import mlflow_errors_as_one_line

BATCH = 1000  # MLflow's limit of metrics in one request
SECONDS_BETWEEN_SENDS = 2.0
SECONDS_TO_WAIT_AT_END = 600.0


class MetricWriter:
    """Keeps points in memory until the server took them; those that the run holds already are not sent again."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        # A request for each metric of a run that goes on; a new run has none.
        self._there = _steps(client, run_id)
        self._waiting: list[Metric] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._give_up = 0.0
        self._error: Any = None
        self._thread = threading.Thread(target=self._send_until_closed, daemon=True, name="metrics")
        self._thread.start()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Takes the values of one step."""
        now = int(time.time() * 1000)
        new = [
            Metric(key, float(value), now, step)
            for key, value in values.items()
            if step not in self._there.get(key, ())
        ]
        with self._lock:
            self._waiting += new

    def next_step(self, prefix: str) -> int:
        """The step after the last one that the run held under any key with this prefix when it was opened."""
        steps = [max(steps) for key, steps in self._there.items() if key.startswith(prefix)]
        return max(steps, default=-1) + 1

    def close(self, seconds: float = SECONDS_TO_WAIT_AT_END) -> None:
        """Waits until everything was taken.

        Raises:
            VggflowError: the server did not answer in this time, or refuses the points.
        """
        self._give_up = time.monotonic() + seconds
        self._closing.set()
        # Longer than the last pause; a request that hangs in MLflow's own repetitions is left behind.
        self._thread.join(seconds + SECONDS_BETWEEN_SENDS)
        with self._lock:
            left = len(self._waiting)
        if left:
            said = " ".join(str(self._error or "no answer").split())
            raise VggflowError(
                f"{left} metric points did not reach MLflow run {self._run_id} ({said[:200]}): "
                "see that the server answers, then run the same command again"
            )

    def _send_until_closed(self) -> None:
        while not self._closing.wait(SECONDS_BETWEEN_SENDS):
            self._send()
        while not self._send() and not self._is_refused() and time.monotonic() < self._give_up:
            time.sleep(SECONDS_BETWEEN_SENDS)

    def _send(self) -> bool:
        """Sends what waits; a batch that failed is sent again as it was, which MLflow takes as the same points."""
        while True:
            # Not held while sending: a request may hang for minutes, and training must not wait for it.
            with self._lock:
                batch = self._waiting[:BATCH]
            if not batch:
                return True
            try:
                self._client.log_batch(self._run_id, metrics=batch)
            except MlflowException as error:
                self._error = error
                return False
            with self._lock:
                # Only this thread takes away, so these are still the first.
                del self._waiting[: len(batch)]

    def _is_refused(self) -> bool:
        """Whether the server answered and will go on saying no, as where somebody deleted the run."""
        return self._error is not None and int(self._error.get_http_status_code()) < 500


def _steps(client: MlflowClient, run_id: str) -> dict[str, set[int]]:
    with mlflow_errors_as_one_line():
        keys = client.get_run(run_id).data.metrics
        return {key: {point.step for point in client.get_metric_history(run_id, key)} for key in keys}
