"""Points on their way to a server that comes and goes."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from vggflow.errors import VggflowError
from vggflow.tracking import metric_writer as points
from vggflow.tracking import system_metrics
from vggflow.tracking.metric_writer import MetricWriter


class Server:
    """What the writer asks of MLflow's client: one run, and days on which nothing is taken."""

    def __init__(self) -> None:
        self.held: dict[str, list[Metric]] = defaultdict(list)
        self.error: MlflowException | None = None
        self.batches: list[int] = []

    def get_run(self, run_id):
        return SimpleNamespace(data=SimpleNamespace(metrics=dict.fromkeys(self.held, 0.0)))

    def get_metric_history(self, run_id, key):
        return self.held[key]

    def log_batch(self, run_id, metrics):
        if self.error:
            raise self.error
        self.batches.append(len(metrics))
        for metric in metrics:
            self.held[metric.key].append(metric)

    def points(self, key):
        return [(point.step, point.value) for point in self.held[key]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(points, "SECONDS_BETWEEN_SENDS", 0.02)


def test_points_arrive_in_order_and_in_batches_that_mlflow_takes():
    server = Server()
    writer = MetricWriter(server, "run")
    for step in range(1, 1501):
        writer.log({"loss": 1 / step}, step)
    writer.close()
    assert server.points("loss") == [(step, 1 / step) for step in range(1, 1501)]
    assert max(server.batches) <= 1000


def test_what_a_continued_run_holds_is_not_sent_again():
    server = Server()
    first = MetricWriter(server, "run")
    first.log({"loss": 0.5, "accuracy": 0.7}, 1)
    first.close()
    second = MetricWriter(server, "run")
    for step in (1, 2):
        second.log({"loss": 0.5}, step)
    second.close()
    assert server.points("loss") == [(1, 0.5), (2, 0.5)]


def test_points_wait_while_the_server_is_away():
    server = Server()
    writer = MetricWriter(server, "run")
    server.error = MlflowException("connection refused", INTERNAL_ERROR)
    for step in range(5):
        writer.log({"loss": 1.0}, step)
    with pytest.raises(VggflowError, match=r"5 metric points did not reach MLflow run run \(.*refused"):
        writer.close(0.1)
    assert server.points("loss") == []


def test_points_arrive_once_the_server_is_back():
    server = Server()
    writer = MetricWriter(server, "run")
    server.error = MlflowException("connection refused", INTERNAL_ERROR)
    writer.log({"loss": 1.0}, 1)
    points.time.sleep(0.1)
    server.error = None
    writer.close(5)
    assert server.points("loss") == [(1, 1.0)]


def test_a_server_that_refuses_is_not_waited_for():
    server = Server()
    writer = MetricWriter(server, "run")
    server.error = MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)
    writer.log({"loss": 1.0}, 1)
    began = points.time.monotonic()
    with pytest.raises(VggflowError, match="no such run"):
        writer.close(60)
    assert points.time.monotonic() - began < 10


def test_memory_and_processor_are_sampled_and_counted_on(monkeypatch):
    monkeypatch.setattr(system_metrics, "SECONDS_TO_FIRST", 0.05)
    monkeypatch.setattr(system_metrics, "SECONDS_BETWEEN", 0.05)
    server = Server()
    for _ in range(2):
        writer = MetricWriter(server, "run")
        with system_metrics.watching(writer):
            points.time.sleep(0.5)
        writer.close()
    for name in ("process_memory_megabytes", "cpu_utilization_percentage", "system_memory_usage_megabytes"):
        steps = [step for step, _ in server.points(f"system/{name}")]
        assert steps == list(range(len(steps))), name
    assert all(megabytes > 10 for _, megabytes in server.points("system/process_memory_megabytes"))
