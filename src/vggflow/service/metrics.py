"""What Prometheus reads of the service: rate, latency, batches, classes, confidence, version."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from vggflow.service.served_model import Loaded

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """Of one service; a second one in the same process has its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "vggflow_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "vggflow_request_seconds",
            "Seconds from a request's head to its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batch_images = Histogram(
            "vggflow_batch_images",
            "Images that the network took at once.",
            buckets=IMAGES,
            registry=self._registry,
        )
        self.unreadable = Counter(
            "vggflow_unreadable_images", "Images without an answer.", registry=self._registry
        )
        self._classes = Counter(
            "vggflow_predictions", "Answers by their class.", ("label",), registry=self._registry
        )
        self._confidence = Histogram(
            "vggflow_confidence", "Probability of the answer.", buckets=CONFIDENCE, registry=self._registry
        )
        self._version = Gauge(
            "vggflow_model_version", "Version of the model that answers.", ("name",), registry=self._registry
        )
        self.follow_errors = Counter(
            "vggflow_follow_errors", "Looks at the registry that failed.", registry=self._registry
        )
        self.keep_errors = Counter(
            "vggflow_keep_errors", "Times that answers could not be kept for drift.", registry=self._registry
        )

    def answered(self, class_names: Sequence[str], probabilities: NDArray[np.float64]) -> None:
        """Counts an answer of shape (K,)."""
        best = int(probabilities.argmax())
        self._classes.labels(class_names[best]).inc()
        self._confidence.observe(float(probabilities[best]))

    def model_version(self, loaded: "Loaded") -> None:
        """Tells which model answers from now on; 0 is a file."""
        self._version.clear()
        self._version.labels(loaded.name).set(loaded.number or 0)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
