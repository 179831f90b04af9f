"""How often drift is found, and how often none is there: `python -m benchmarks.drift [--recipe NAME] [--json]`.

Half of the training photographs of `$VGGFLOW_PHOTOS` are kept from a training by a recipe, from
`$VGGFLOW_IMAGENET_WEIGHTS`. Draws of 200 of them are compared with valid and test: 100 as they are, 20 each
darker, blurred, grey, and with more of one class. A false alarm, or a change that was not found, ends with exit code 1.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks.training import row, show_all
from benchmarks.training_learns import settings_of
from vggflow.models import start_keras

if TYPE_CHECKING:
    from vggflow.prediction.observations import Observations
    from vggflow.prediction.predictor import Predictor

DRAWN, UNSHIFTED, SHIFTED = 200, 100, 20
SHARE = 0.7
Change = Callable[[Image.Image], Image.Image]


def _darker(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.7)


def _blurred(image: Image.Image) -> Image.Image:
    """By 2 pixels of a picture of 224."""
    return image.filter(ImageFilter.GaussianBlur((2 * image.width / 224, 2 * image.height / 224)))


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


CHANGES: dict[str, Change] = {"brightness × 0.7": _darker, "blur of 2 px at 224": _blurred, "grey": _grey}


def observed(predictor: "Predictor", paths: Sequence[Path], change: Change | None) -> "Observations":
    """A model's answers on photographs, changed or as they are."""
    from vggflow.data.images import open_image
    from vggflow.prediction import observations

    def pictures() -> Iterator[Any]:
        for path in paths:
            yield path if change is None else np.asarray(change(open_image(path)))

    parts = list(predictor.answers(pictures()))
    probabilities = np.concatenate([part.probabilities for part in parts])
    features = np.concatenate([part.features for part in parts if part.features is not None])
    return observations.of(predictor.info.class_names, probabilities, features, datetime.now(UTC))


def subset(found: "Observations", rows: NDArray[np.int64]) -> "Observations":
    """The answers on some of the images."""
    classes = found.classes[rows]
    features = None if found.features is None else found.features[rows]
    counts = np.bincount(classes, minlength=len(found.class_names))
    return replace(
        found, counts=counts, classes=classes, confidence=found.confidence[rows], features=features
    )


def draws(
    truth: NDArray[Any], count: int, seed: int, share: float | None = None
) -> Iterator[NDArray[np.int64]]:
    """Rows at random, each once in a draw; `share` of them of the first class."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        if share is None:
            yield random.choice(len(truth), DRAWN, replace=False)
        else:
            first, rest = np.flatnonzero(truth == truth[0]), np.flatnonzero(truth != truth[0])
            of_first = round(share * DRAWN)
            yield np.concatenate(
                [
                    random.choice(first, of_first, replace=False),
                    random.choice(rest, DRAWN - of_first, replace=False),
                ]
            )


def measure(
    predictor: "Predictor", held_out: Sequence[Path], unseen: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    """Alarms without a change, then found changes, of so many draws."""
    from vggflow.drift import compare

    before = observed(predictor, held_out, None)
    truth = np.array([path.parent.name for path in unseen])
    plain = observed(predictor, unseen, None)

    def found(now: "Observations", count: int, share: float | None = None) -> tuple[int, list[float]]:
        looks = [compare.compare(before, subset(now, rows)) for rows in draws(truth, count, 0, share)]
        smallest = sorted(min(shift.p_value for shift in look.shifts) for look in looks)
        return sum(look.found for look in looks), [float(f"{p:.2g}") for p in smallest]

    accuracy = float((np.array(plain.class_names)[plain.classes] == truth).mean())
    yield row("accuracy on images that no training saw", accuracy, None, least=True)
    alarms, p_values = found(plain, UNSHIFTED)
    yield row(f"alarms in {UNSHIFTED} unshifted draws", alarms, 0, least=False) | {"smallest p": p_values[0]}
    for name, change in CHANGES.items():
        count, p_values = found(observed(predictor, unseen, change), SHIFTED)
        yield row(f"found of {SHIFTED}: {name}", count, SHIFTED, least=True) | {"largest p": p_values[-1]}
    count, p_values = found(plain, SHIFTED, SHARE)
    told = f"found of {SHIFTED}: {SHARE:.0%} of one class"
    yield row(told, count, SHIFTED, least=True) | {"largest p": p_values[-1]}


def trained(given: argparse.Namespace, manifest: pd.DataFrame, folder: Path) -> "Predictor":
    """The exported graph of a model that saw what the manifest does not exclude."""
    from vggflow.models import files
    from vggflow.prediction import exported_graph
    from vggflow.prediction.onnx_predictor import OnnxPredictor
    from vggflow.prediction.predictor import Predictor
    from vggflow.training.fitting import fit
    from vggflow.training.job import SilentObserver, TrainingJob

    weights = Path(given.weights)
    settings = settings_of(given.recipe, weights.name, None, "tensorflow")
    done = fit(TrainingJob(settings, manifest, Path(given.photos), weights.parent, folder), SilentObserver())
    files.save(done.model, done.info, folder / "model.keras")
    exported_graph.write(Predictor(folder / "model.keras"), folder / "model.onnx")
    return OnnxPredictor(folder / "model.onnx")


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--weights", type=Path, default=os.environ.get("VGGFLOW_IMAGENET_WEIGHTS"))
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--model", type=Path, help="a graph that was trained so, instead of a training")
    given = parser.parse_args()
    if given.photos is None or given.weights is None:
        parser.error("no photographs or weights: set VGGFLOW_PHOTOS and VGGFLOW_IMAGENET_WEIGHTS")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start("tensorflow")
    from vggflow.gate.scan import scan
    from vggflow.prediction.onnx_predictor import OnnxPredictor

    photos = Path(given.photos)
    manifest = scan(photos)
    train = manifest["split"] == "train"
    # Every second one of each class: a manifest is sorted.
    unseen = manifest[train][::2]
    manifest.loc[unseen.index, "excluded"] = "kept from the training"
    held_out = manifest[~train & (manifest["class_name"] != "unknown")]
    with tempfile.TemporaryDirectory() as folder:
        predictor = OnnxPredictor(given.model) if given.model else trained(given, manifest, Path(folder))
        found = measure(
            predictor, *([photos / path for path in table["path"]] for table in (held_out, unseen))
        )
        return show_all(found, judged=True, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
