"""How many swapped labels an audit finds: `python -m benchmarks.audit [--json]`.

Of the training photographs of `$VGGFLOW_PHOTOS` 5 % get another label, with five seeds, and the ranking of
`vggflow audit` is looked at: how many of the first 50 were swapped, how many of the swapped ones are among the first
100. What it sees are `$VGGFLOW_IMAGENET_WEIGHTS` at 128 px, computed once. The same with scikit-learn's 1,797
digits, of ten classes, at 64 px, without an aim. A figure that misses its aim ends with exit code 1.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.training import row, show_all
from benchmarks.training_learns import settings_of
from vggflow.models import start_keras

SEEDS, SWAPPED = 5, 0.05
PHOTO_PX, DIGIT_PX = 128, 64
PRECISION_AT_FIRST, RECALL_AT_TWICE, SECONDS = 0.75, 0.90, 5.0


@dataclass(frozen=True)
class Seen:
    """Images with their true labels, and what the start weights see in them."""

    images: pd.DataFrame
    features: NDArray[np.float32]
    class_names: tuple[str, ...]
    seconds: float


def see(folder: Path, weights: Path, size_px: int, state: Path) -> Seen:
    """The features of a data folder's labelled images."""
    from vggflow.data import manifest as manifests
    from vggflow.data.layout import SPLITS
    from vggflow.features.batches import examples
    from vggflow.gate.scan import scan
    from vggflow.training.job import TrainingJob
    from vggflow.training.start_features import start_features

    settings = settings_of("laptop", weights.name, size_px, "tensorflow")
    manifest = scan(folder)
    names = manifests.class_names(manifest)
    rows = {split: manifests.labelled(manifest, split) for split in SPLITS}
    splits = [examples(manifest, split, names, folder) for split in SPLITS if len(rows[split])]
    began = time.perf_counter()
    job = TrainingJob(settings, manifest, folder, weights.parent, state)
    features = start_features(job, splits, lambda _done, _total: None)
    images = pd.concat(rows.values(), ignore_index=True)
    return Seen(images, features, names, time.perf_counter() - began)


def swap(labels: Sequence[str], among: NDArray[np.int64], names: Sequence[str], seed: int) -> dict[int, str]:
    """Another label for 5 % of some images, by their numbers."""
    random = np.random.default_rng(seed)
    chosen = random.choice(among, round(SWAPPED * len(among)), replace=False)
    return {
        int(number): str(random.choice([name for name in names if name != labels[number]]))
        for number in chosen
    }


def find(seen: Seen, seed: int) -> dict[str, float]:
    """Swaps labels of training images and looks for them."""
    from vggflow.audit.suspects import audit

    train = np.flatnonzero((seen.images["split"] == "train").to_numpy())
    wrong = swap(list(seen.images["class_name"]), train, seen.class_names, seed)
    labels = [wrong.get(number, name) for number, name in enumerate(seen.images["class_name"])]
    began = time.perf_counter()
    suspects = audit(seen.images.assign(class_name=labels), seen.features, seen.class_names).suspects
    seconds = time.perf_counter() - began
    ranked = list(suspects.loc[suspects["split"] == "train", "path"])
    swapped = set(seen.images["path"].iloc[list(wrong)])
    sure = list(suspects.loc[suspects["sure"], "path"])
    return {
        "precision": float(np.mean([path in swapped for path in ranked[: len(wrong)]])),
        "recall": len(swapped & set(ranked[: 2 * len(wrong)])) / len(wrong),
        "sure": float(np.mean([path in swapped for path in sure])) if sure else 1.0,
        "seconds": seconds,
    }


def draw_digits(folder: Path) -> None:
    """All of scikit-learn's digits as `folder/<split>/<digit>/…png`, every fifth one in valid."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / ("train" if number % 5 else "valid") / str(digit) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
        grey.resize((DIGIT_PX, DIGIT_PX), Image.Resampling.BICUBIC).convert("RGB").save(path)


def measure(photos: Path, weights: Path, state: Path) -> Iterator[dict[str, Any]]:
    """The figures of photographs, then of digits."""
    yield from _figures("photographs", see(photos, weights, PHOTO_PX, state), aimed=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_digits(Path(folder))
        yield from _figures("digits", see(Path(folder), weights, DIGIT_PX, state), aimed=False)


def _figures(what: str, seen: Seen, *, aimed: bool) -> Iterator[dict[str, Any]]:
    found = [find(seen, seed) for seed in range(SEEDS)]
    count = round(SWAPPED * (seen.images["split"] == "train").sum())

    def figure(name: str, words: str, aim: float | None, *, least: bool) -> dict[str, Any]:
        values = [each[name] for each in found]
        worst = min(values) if least else max(values)
        seeds = [float(f"{value:.2f}") for value in values]
        return row(f"{what}: {words}", worst, aim if aimed else None, least=least) | {"seeds": seeds}

    yield row(
        f"{what}: seconds for the features of {len(seen.images)} images", seen.seconds, None, least=False
    )
    yield figure("precision", f"swapped among the first {count}", PRECISION_AT_FIRST, least=True)
    yield figure("recall", f"of the swapped, among the first {2 * count}", RECALL_AT_TWICE, least=True)
    yield figure("sure", "swapped among those that are surely in doubt", None, least=True)
    yield figure("seconds", "seconds beside the features", SECONDS, least=False)


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.audit", description=__doc__)
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
        state = given.state or Path(folder)
        return show_all(
            measure(Path(given.photos), Path(given.weights), state), judged=True, as_json=given.json
        )


if __name__ == "__main__":
    sys.exit(main())
