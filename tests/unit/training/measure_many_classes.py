"""Prints as JSON by how many MB the peak memory of this process grows, from few images of 1,000 classes to many:

python measure_many_classes.py probe|epoch STATE_FOLDER
"""

import json
import resource
import sys
from pathlib import Path

import keras
import numpy as np
from tiny_training import HEAD, settings

from vggflow.settings import Phase
from vggflow.training import hardware
from vggflow.training.learner import Data, Learner
from vggflow.training.probe import probe_accuracy

CLASSES, FEW, MANY = 1000, 2_000, 80_000


class Made:
    """Rows of four features that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return np.stack(
            [np.sin(indices * factor) for factor in (0.1, 0.7, 1.3, 2.9)], axis=1, dtype=np.float32
        )


def probe(count: int, _state: Path) -> None:
    labels = np.arange(count) % CLASSES
    probe_accuracy(Made(count), labels, Made(count), labels)


def epoch(count: int, state: Path) -> None:
    labels = np.arange(count) % CLASSES
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(inputs))
    data = Data(Made(count), labels, Made(count), labels, np.ones(CLASSES, np.float32))
    train = settings({"batch_size": 250}).train
    learner = Learner(network, data, train, Phase.model_validate(HEAD), hardware.prepare(train, state))
    learner.epoch(1, 0, lambda _done, _total, _row: None)


def main() -> None:
    """Few first, so that what code and libraries take is there before the many come."""
    work = {"probe": probe, "epoch": epoch}[sys.argv[1]]
    peaks = []
    for count in (FEW, MANY):
        work(count, Path(sys.argv[2]))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.stdout.write(json.dumps(peaks[1] - peaks[0]) + "\n")


if __name__ == "__main__":
    main()
