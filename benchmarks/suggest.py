"""What suggested images teach beside random ones: `python -m benchmarks.suggest [--json]`.

Of the training photographs of `$VGGFLOW_PHOTOS` 200 are labelled. Four times 100 more are, once those that
`vggflow suggest` chooses, once at random; after each, a classifier on the features of `$VGGFLOW_IMAGENET_WEIGHTS` at
128 px is taught by all that are labelled and asked about the test photographs. Ten seeds; no figure has an aim, since
nobody promises that it wins.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.audit import PHOTO_PX, Seen, see
from benchmarks.training import row, show_all
from vggflow.models import start_keras

SEEDS, LABELLED, MORE, ROUNDS = 10, 200, 100, 4
Rows = NDArray[np.int64]


def curve(seen: Seen, seed: int, choose: Callable[[Rows, Rows, int], Rows]) -> list[float]:
    """The accuracy on test after each round, the first without anything added."""
    from vggflow.audit.out_of_fold import taught

    splits, names = seen.images["split"].to_numpy(), list(seen.class_names)
    labels = np.array([names.index(name) for name in seen.images["class_name"]])
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    have = np.random.default_rng(seed).choice(train, LABELLED, replace=False)
    found = []
    for number in range(ROUNDS + 1):
        answers, classes = taught(seen.features[have], labels[have], seen.features[test])
        found.append(float((classes[answers.argmax(axis=1)] == labels[test]).mean()))
        pool = np.setdiff1d(train, have)
        have = np.concatenate([have, choose(have, pool, seed * 100 + number)])
    return found


def measure(seen: Seen) -> Iterator[dict[str, Any]]:
    """The mean accuracy of either way after each round, and how often suggestions did better."""
    from vggflow.audit.most_informative import choose

    names = list(seen.class_names)
    labels = np.array([names.index(name) for name in seen.images["class_name"]])
    test = np.flatnonzero(seen.images["split"].to_numpy() == "test")

    def suggested(have: Rows, pool: Rows, _seed: int) -> Rows:
        features = seen.features
        chosen = choose(features[have], labels[have], features[pool], MORE, kept_apart=features[test])
        return pool[chosen.rows]

    def at_random(_have: Rows, pool: Rows, seed: int) -> Rows:
        return np.random.default_rng(seed).choice(pool, MORE, replace=False)

    ways = {"suggested": suggested, "random": at_random}
    found = {name: np.array([curve(seen, seed, way) for seed in range(SEEDS)]) for name, way in ways.items()}
    for number in range(ROUNDS + 1):
        count = LABELLED + MORE * number
        for name, values in found.items():
            yield row(
                f"{count} labelled, {name}: accuracy on test", values[:, number].mean(), None, least=True
            ) | {"seeds": [round(float(value), 3) for value in values[:, number]]}
        better = int((found["suggested"][:, number] > found["random"][:, number]).sum())
        worse = int((found["suggested"][:, number] < found["random"][:, number]).sum())
        if number:
            yield row(
                f"{count} labelled: seeds in which suggestions did better", better, None, least=True
            ) | {"worse": worse}


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.suggest", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("VGGFLOW_IMAGENET_WEIGHTS"))
    parser.add_argument("--state", type=Path, help="a folder to keep features in")
    given = parser.parse_args()
    if given.photos is None or given.weights is None:
        parser.error("no photographs or weights: set VGGFLOW_PHOTOS and VGGFLOW_IMAGENET_WEIGHTS")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start("tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        seen = see(Path(given.photos), Path(given.weights), PHOTO_PX, given.state or Path(folder))
        return show_all(measure(seen), judged=True, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
