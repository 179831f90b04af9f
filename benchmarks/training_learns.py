"""How well a training does on photographs: `python -m benchmarks.training_learns [--json]`.

Fine-tunes `$VGGFLOW_START_WEIGHTS` (width 1/4, 64×64) on the photographs of `$VGGFLOW_PHOTOS` with three seeds; beside
each accuracy on test the linear probe's, on the same images and on valid. A median below 0.80 ends with exit code 1.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training import row, show
from vggflow.models import start_keras

SEEDS = (0, 1, 2)
AIM = 0.80
PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 5},
    {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.0001, "epochs": 10},
]


def measure(photos: Path, weights: Path, seed: int) -> dict[str, float]:
    """Accuracies of one training: the model's on test, the probe's on test and on valid."""
    import numpy as np

    from vggflow.features.batches import Decoding, Shape, examples
    from vggflow.gate.scan import scan
    from vggflow.models import cut
    from vggflow.models.probabilities import class_probabilities
    from vggflow.settings import parse
    from vggflow.training.fitting import fit
    from vggflow.training.job import SilentObserver, TrainingJob
    from vggflow.training.learner import predict
    from vggflow.training.preparation import set_up
    from vggflow.training.probe import probe_accuracy

    model = {
        "width": 0.25,
        "image_size_px": 64,
        "head": "pooling",
        "weights": weights.name,
        "builder": "sequential",
    }
    others: dict[str, Any] = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}
    settings = parse({"model": model, "train": {"phases": PHASES, "seed": seed}, **others})
    manifest = scan(photos)
    with tempfile.TemporaryDirectory() as state:
        job = TrainingJob(settings, manifest, photos, weights.parent, Path(state))
        setup = set_up(job)
        frozen = cut.prefix(setup.model, [str(setup.plans[0].cut)])
        names = tuple(setup.class_names)
        train, test = (examples(manifest, split, names, photos) for split in ("train", "test"))
        features = [
            InMemory(predict(frozen, Decoding(split, Shape(64, "stretch")), 32)) for split in (train, test)
        ]
        probe = probe_accuracy(features[0], train.labels, features[1], test.labels)
        trained = fit(job, SilentObserver())
    outputs = predict(trained.model, Decoding(test, Shape(64, "stretch")), 32)
    guesses = class_probabilities(np.asarray(outputs)).argmax(axis=1)
    return {
        "test": float((guesses == test.labels).mean()),
        "probe": probe,
        "probe on valid": trained.results["linear_probe_val_accuracy"],
    }


class InMemory:
    """Rows of an array."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def gather(self, indices: Any) -> Any:
        """The rows with these numbers."""
        return self._array[indices]


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.training_learns", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("VGGFLOW_START_WEIGHTS"))
    given = parser.parse_args()
    if given.photos is None or given.weights is None:
        parser.error("no photographs or start weights: set VGGFLOW_PHOTOS and VGGFLOW_START_WEIGHTS")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start()
    found = [measure(Path(given.photos), Path(given.weights), seed) for seed in SEEDS]
    for name, measured in (("accuracy on test", "test"), ("linear probe on test", "probe")):
        values = [each[measured] for each in found]
        judged = row(name, statistics.median(values), AIM if measured == "test" else None, least=True)
        show(judged | {"seeds": [round(value, 4) for value in values]}, as_json=given.json)
    on_valid = [each["probe on valid"] for each in found]
    show(row("linear probe on valid", statistics.median(on_valid), None, least=True), as_json=given.json)
    return int(statistics.median(each["test"] for each in found) < AIM)


if __name__ == "__main__":
    sys.exit(main())
