"""Gathers a service's answers, one by one, in memory that stays flat."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from vggflow.prediction.observations import Observations, in_16_bits

# A service writes them down every hour, 600 KB; a few hours' are enough for a night's look.
MOST_IMAGES = 200


class Collector:
    """Of one model; threads may use it.

    Images are chosen as they come, each with the same chance, however many come after it.
    Source: J. Vitter, ACM Transactions on Mathematical Software 11 (1985), 37–57, algorithm R.
    """

    def __init__(self, class_names: Sequence[str], most: int = MOST_IMAGES, seed: int | None = None) -> None:
        self._names = tuple(class_names)
        self._most = most
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._counts = np.zeros(len(self._names), np.int64)
        self._rows: list[tuple[int, float, NDArray[np.float16] | None]] = []
        self._since = self._until = datetime.now(UTC)

    def add(self, probabilities: NDArray[np.float64], features: NDArray[np.float32] | None) -> None:
        """One answer: probabilities of shape (K,), features of shape (F,)."""
        best = int(probabilities.argmax())
        with self._lock:
            now = datetime.now(UTC)
            if not self._counts.any():
                self._since = now
            self._until = now
            self._counts[best] += 1
            place = len(self._rows)
            if place == self._most:
                place = int(self._random.integers(self._counts.sum()))
                if place >= self._most:
                    return
            kept = None if features is None else in_16_bits(features)
            self._rows[place : place + 1] = [(best, float(probabilities[best]), kept)]

    def take(self) -> Observations | None:
        """What came since the last time; None where nothing did."""
        with self._lock:
            if not self._rows:
                return None
            found = self._observations()
            self._begin()
        return found

    def _observations(self) -> Observations:
        kept = [features for _, _, features in self._rows if features is not None]
        return Observations(
            self._names,
            self._counts,
            np.array([each for each, _, _ in self._rows], np.int64),
            np.array([each for _, each, _ in self._rows], np.float64),
            np.stack(kept) if len(kept) == len(self._rows) else None,
            self._since,
            self._until,
        )
