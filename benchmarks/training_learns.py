"""How well a training does on photographs: `python -m benchmarks.training_learns [--recipe NAME] [--json]`.

Fine-tunes with three seeds on the photographs of `$VGGFLOW_PHOTOS`: `$VGGFLOW_START_WEIGHTS` (width 1/4, 64×64), or
from `$VGGFLOW_IMAGENET_WEIGHTS` as a recipe says. Beside each accuracy on test stand the linear probe's, on the same
images and on valid, and what was said beforehand of the time. A median below the aim ends with exit code 1.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.training import row, show
from vggflow.models import start_keras

if TYPE_CHECKING:
    from vggflow.settings import Settings
    from vggflow.training.job import TrainingJob

SEEDS = (0, 1, 2)
PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 5},
    {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.0001, "epochs": 10},
]
AIMS = {"": 0.80, "laptop": 0.93}
WEIGHTS = {"": "VGGFLOW_START_WEIGHTS"}


def settings_of(recipe: str, weights: str, size_px: int | None, backend: str) -> "Settings":
    """Those of a recipe, or of a small training, with start weights by their file's name."""
    from vggflow.settings import parse
    from vggflow.workspace import recipe_text

    if recipe:
        content = yaml.safe_load(recipe_text(recipe))
    else:
        small = {"width": 0.25, "image_size_px": 64, "head": "pooling", "builder": "sequential"}
        content = {"model": small, "train": {"phases": PHASES}, "validate": {}, "evaluate": {}}
        content["registry"] = {"experiment": "none"}
    content["model"] |= {"weights": weights} | ({"image_size_px": size_px} if size_px else {})
    content["train"] |= {"backend": backend}
    return parse(content)


def probe(job: "TrainingJob") -> float:
    """What the frozen layers are worth without training: a linear classifier's accuracy on test."""
    from vggflow.features.batches import Decoding, Shape, examples
    from vggflow.models import cut
    from vggflow.training.learner import predict
    from vggflow.training.preparation import set_up
    from vggflow.training.probe import probe_accuracy

    setup = set_up(job)
    frozen = cut.prefix(setup.model, [str(setup.plans[0].cut)])
    shape = Shape(job.settings.model.image_size_px, job.settings.model.resize)
    splits = [
        examples(job.manifest, split, setup.class_names, job.data_folder) for split in ("train", "test")
    ]
    train, test = (InMemory(predict(frozen, Decoding(split, shape), 32)) for split in splits)
    return probe_accuracy(train, splits[0].labels, test, splits[1].labels)


def measure(job: "TrainingJob") -> dict[str, float]:
    """One training: the model's accuracy on test, the probe's on valid, seconds and what was said of them."""
    import numpy as np

    from vggflow.features.batches import Decoding, Shape, examples
    from vggflow.models.probabilities import class_probabilities
    from vggflow.training.fitting import discard_checkpoint, fit
    from vggflow.training.job import SilentObserver
    from vggflow.training.learner import predict
    from vggflow.training.preparation import set_up

    expected = set_up(job).expected
    began = time.perf_counter()
    trained = fit(job, SilentObserver())
    seconds = time.perf_counter() - began
    discard_checkpoint(job, trained)
    shape = Shape(job.settings.model.image_size_px, job.settings.model.resize)
    test = examples(job.manifest, "test", trained.info.class_names, job.data_folder)
    outputs = predict(trained.model, Decoding(test, shape), 32)
    guesses = class_probabilities(np.asarray(outputs)).argmax(axis=1)
    # Early stopping makes a phase shorter than was said: only epochs that were trained are compared.
    said = expected.feature_seconds if expected else 0.0
    for phase in expected.phases if expected else ():
        done = sum(each["phase"] == phase.name for each in trained.history)
        said += phase.seconds * done / phase.epochs
    return {
        "test": float((guesses == test.labels).mean()),
        "probe on valid": trained.results["linear_probe_val_accuracy"],
        "seconds": seconds,
        "said": said / seconds,
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
    parser.add_argument("--recipe", default="", help="such as laptop; else a small training")
    parser.add_argument("--size", type=int, help="pixels, where not those of the recipe")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    given = parser.parse_args()
    variable = WEIGHTS.get(given.recipe, "VGGFLOW_IMAGENET_WEIGHTS")
    weights = given.weights or os.environ.get(variable)
    if given.photos is None or weights is None:
        parser.error(f"no photographs or start weights: set VGGFLOW_PHOTOS and {variable}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start(given.backend)
    aim = AIMS.get(given.recipe)
    with tempfile.TemporaryDirectory() as state:
        found = list(_trainings(given, Path(weights), Path(state)))
    accuracies = [each["test"] for each in found]
    show(_row("accuracy on test", accuracies, aim), as_json=given.json)
    for name in ("probe on test", "probe on valid", "seconds", "said"):
        label = {"said": "seconds said beforehand / seconds", "seconds": "seconds"}.get(
            name, f"linear {name}"
        )
        show(_row(label, [each[name] for each in found], None), as_json=given.json)
    return int(aim is not None and statistics.median(accuracies) < aim)


def _trainings(given: argparse.Namespace, weights: Path, state: Path) -> Iterator[dict[str, float]]:
    """In one state folder: features, which do not depend on the seed, are computed by the first one."""
    from vggflow.gate.scan import scan
    from vggflow.training.job import TrainingJob

    photos = Path(given.photos)
    settings = settings_of(given.recipe, weights.name, given.size, given.backend)
    job = TrainingJob(settings, scan(photos), photos, weights.parent, state)
    on_test = None
    for seed in given.seeds:
        train = settings.train.model_copy(update={"seed": seed})
        measured = measure(replace(job, settings=settings.model_copy(update={"train": train})))
        on_test = probe(job) if on_test is None else on_test
        yield measured | {"probe on test": on_test}


def _row(name: str, values: list[float], aim: float | None) -> dict[str, Any]:
    judged = row(name, statistics.median(values), aim, least=True)
    return judged | {"seeds": [round(value, 4) for value in values]}


if __name__ == "__main__":
    sys.exit(main())
