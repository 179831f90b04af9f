"""An exported network held against the Keras model on images: may it be used in its place?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow.models.probabilities import class_probabilities
from vggflow.prediction.export_formats import Ask, Pixels
from vggflow.prediction.predictor import BATCH_SIZE, Predictor, refuse_unread

# In float32 rounding in another order moves probabilities by about 1e-6.
FLOAT32_DIFFERENCE = 1e-5
# INT8: LiteRT's of one champion lost 4 points of accuracy, which nobody should find out in production.
INT8_ACCURACY_LOST = 0.01
INT8_DISAGREEMENT = 0.025

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportCheck:
    """How the exported network answers, beside the Keras model.

    Attributes:
        images: How many both answered.
        largest_difference: Of a probability.
        labels_differ: To how many images they give different classes.
        labelled: How many images lie in a folder named like a class.
        keras_accuracy: On the labelled ones; None where there are none.
        accuracy: The exported network's.
        times_as_fast: Of the networks alone.
    """

    images: int
    largest_difference: float
    labels_differ: int
    labelled: int
    keras_accuracy: float | None
    accuracy: float | None
    times_as_fast: float

    def refusal(self, *, int8: bool) -> str:
        """Why it can't be used in the model's place; empty where it can."""
        if int8:
            lost = (self.keras_accuracy or 0.0) - (self.accuracy or 0.0)
            if lost > INT8_ACCURACY_LOST + 1e-9:
                return f"it loses {lost:.1%} of accuracy, at most {INT8_ACCURACY_LOST:.0%} is allowed"
            if self.labels_differ > INT8_DISAGREEMENT * self.images:
                share = self.labels_differ / self.images
                return f"it answers {share:.1%} of the images otherwise, at most {INT8_DISAGREEMENT:.1%} is allowed"
            return ""
        # What is no number is no agreement either.
        if not self.largest_difference <= FLOAT32_DIFFERENCE:
            return f"probabilities differ by {self.largest_difference:.2g}, at most {FLOAT32_DIFFERENCE:g} is allowed"
        return f"{self.labels_differ} labels differ, none may" if self.labels_differ else ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def check(predictor: Predictor, exported: Ask, paths: Sequence[Path], progress: Progress) -> ExportCheck:
    """Sends image files, each decoded once, through both; folders named like a class give the truth.

    Raises:
        DataError: an image can't be read.
    """
    names = predictor.info.class_names
    answers: list[list[NDArray[np.float64]]] = [[], []]
    seconds = [0.0, 0.0]

    def ask_exported(batch: Pixels) -> NDArray[np.float64]:
        return class_probabilities(exported(batch))

    asks = (predictor.ask, ask_exported)
    for start in range(0, len(paths), BATCH_SIZE):
        batch = decode(predictor, paths[start : start + BATCH_SIZE])
        for side, ask in enumerate(asks):
            if start == 0:
                ask(batch)  # compiles
            began = time.perf_counter()
            answers[side].append(ask(batch))
            seconds[side] += time.perf_counter() - began
        progress(min(start + BATCH_SIZE, len(paths)), len(paths))
    ours, theirs = (np.concatenate(side) for side in answers)
    chosen = [side.argmax(axis=1) for side in (ours, theirs)]
    truth = np.array([names.index(path.parent.name) if path.parent.name in names else -1 for path in paths])
    known = truth >= 0
    accuracy = [float(np.mean(side[known] == truth[known])) if known.any() else None for side in chosen]
    return ExportCheck(
        images=len(paths),
        largest_difference=float(np.abs(ours - theirs).max()),
        labels_differ=int((chosen[0] != chosen[1]).sum()),
        labelled=int(known.sum()),
        keras_accuracy=accuracy[0],
        accuracy=accuracy[1],
        times_as_fast=seconds[0] / max(seconds[1], 1e-9),
    )


def decode(predictor: Predictor, paths: Sequence[Path]) -> Pixels:
    """The pixels of images as the network takes them, shape (N, S, S, 3).

    Raises:
        DataError: one can't be read.
    """
    decoded = [predictor.decode(path) for path in paths]
    refuse_unread(paths, [each.error for each in decoded])
    return np.stack([each.pixels for each in decoded if each.pixels is not None])
