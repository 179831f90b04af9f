"""What the calibration temperature does to models: a part of `python -m benchmarks.promotion`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from vggflow.evaluation.calibration import expected_error
from vggflow.training.fit_temperature import fit_temperature

CLASSES = (2, 10, 100, 1000)
IMAGES = (8, 40, 200, 1000, 10_000)
NEW_IMAGES = 2000
# Images × classes of all fits of a row, and how many fits there are at most.
ENTRIES, MOST_FITS = 4_000_000, 200
# How far a calibrated model's log loss and calibration error may grow on average.
MOST_LOSS, MOST_ERROR = 0.01, 0.01

Floats = NDArray[np.float64]


def run(seed: int) -> Iterator[dict[str, Any]]:
    """A row per number of classes and valid images: the mean change on new images after fitting the temperature."""
    for sharpness, what in ((1.0, "calibrated"), (2.0, "overconfident, logits doubled")):
        for classes in CLASSES:
            # What helps with 1,000 images helps with more, and the largest table takes a minute a fit.
            for images in IMAGES if sharpness == 1.0 else IMAGES[:-1]:
                yield {"scenario": f"{what}, {classes:,} classes, {images:,} valid images"} | _row(
                    classes, images, sharpness, seed
                )


def told(row: dict[str, Any]) -> str:
    """The row as a line of the table."""
    loss, error = f"{row['log_loss_change']:+.4f}", f"{row['calibration_error_change']:+.4f}"
    missed = "" if row["met"] else "MISSED "
    return f"log loss {loss}, error {error}, kept {row['kept']:4.0%} of {row['fits']:3} {missed}{row['scenario']}"


def _row(classes: int, images: int, sharpness: float, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    fits = int(np.clip(ENTRIES // (classes * images), 2, MOST_FITS))
    new, truth = _drawn(generator, classes, NEW_IMAGES)
    before = _measured(new * sharpness, truth)
    changes, kept = [], 0
    for _ in range(fits):
        logits, labels = _drawn(generator, classes, images)
        temperature = fit_temperature((logits * sharpness).astype(np.float32), labels)
        kept += temperature == 1.0
        after = before if temperature == 1.0 else _measured(new * sharpness / temperature, truth)
        changes.append(after - before)
    loss, error = np.mean(changes, axis=0)
    met = sharpness != 1.0 or (loss <= MOST_LOSS and error <= MOST_ERROR)
    numbers = {"log_loss_change": float(loss), "calibration_error_change": float(error)}
    return numbers | {"kept": kept / fits, "fits": fits, "met": bool(met)}


def _drawn(generator: np.random.Generator, classes: int, images: int) -> tuple[Floats, NDArray[np.int64]]:
    """Logits whose softmax is what the labels are drawn by."""
    logits = generator.normal(0, 3, (images, classes))
    reached = softmax(logits, axis=1).cumsum(axis=1) > generator.uniform(size=(images, 1))
    reached[:, -1] = True  # rounding may leave the sum just below 1
    return logits, reached.argmax(axis=1)


def _measured(logits: Floats, truth: NDArray[np.int64]) -> Floats:
    """Log loss and expected calibration error."""
    chances = softmax(logits, axis=1)
    loss = -np.take_along_axis(log_softmax(logits, axis=1), truth[:, np.newaxis], axis=1).mean()
    return np.array([loss, expected_error(chances.max(axis=1), chances.argmax(axis=1) == truth)])
