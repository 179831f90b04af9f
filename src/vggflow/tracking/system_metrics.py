"""Memory and use of processor and GPUs while a training runs, where MLflow shows its system metrics."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from vggflow.tracking.metric_writer import MetricWriter

PREFIX = "system/"
# The first one soon: else a short training has none.
SECONDS_TO_FIRST, SECONDS_BETWEEN = 1.0, 10.0


@contextmanager
def watching(writer: MetricWriter) -> Iterator[None]:
    """Samples every ten seconds inside the block; a continued run goes on counting its samples.

    MLflow's own thread ends at the first request that fails; here samples wait with the other points.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_sample_until, args=(stop, writer), daemon=True, name="system metrics")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _sample_until(stop: threading.Event, writer: MetricWriter) -> None:
    monitors = _monitors()
    process = psutil.Process()
    psutil.cpu_percent()  # The first call has nothing to compare with.
    step, pause = writer.next_step(PREFIX), SECONDS_TO_FIRST
    while not stop.wait(pause):
        values = {"process_memory_megabytes": process.memory_info().rss / 1e6}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        writer.log({f"{PREFIX}{name}": value for name, value in values.items()}, step)
        step, pause = step + 1, SECONDS_BETWEEN


def _monitors() -> list[Any]:
    """MLflow's monitors of the processor and, with `nvidia-ml-py` and a GPU, of the GPUs."""
    kinds: list[Any] = [CPUMonitor, GPUMonitor]
    found = []
    for kind in kinds:
        with suppress(ImportError, RuntimeError):
            found.append(kind())
    return found
