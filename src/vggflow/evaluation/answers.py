"""A predictions table as arrays: what was true, what was answered, and with which probability."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.errors import DataError
from vggflow.prediction import table


@dataclass(frozen=True)
class Answers:
    """N images and K classes.

    Attributes:
        truth: The index of the true class, shape (N,).
        probabilities: Shape (N, K).
    """

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return int(self.probabilities.shape[1])

    @property
    def given(self) -> NDArray[np.int64]:
        """The index of the most probable class, shape (N,); the first one on a tie."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the answer is the truth, shape (N,)."""
        return np.asarray(self.given == self.truth)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of the answer given, shape (N,)."""
        return np.asarray(self.probabilities.max(axis=1))


def read(predictions: pd.DataFrame, class_names: Sequence[str]) -> Answers:
    """The answers in a predictions table, classes in the order of `class_names`.

    Raises:
        DataError: there are no rows, a true class is not among `class_names`, or a probability is no number.
    """
    if predictions.empty:
        raise DataError("there are no predictions to measure: the test split is empty or was left out")
    numbers = {name: number for number, name in enumerate(class_names)}
    unknown = sorted(set(predictions["truth"]) - set(numbers))
    if unknown:
        raise DataError(
            f"the test images hold {', '.join(unknown)}, which the model does not know: "
            f"it knows {', '.join(class_names)}"
        )
    probabilities = table.probabilities(predictions, class_names)
    if not np.isfinite(probabilities).all():
        raise DataError("the model gave probabilities that are no numbers: train with a lower learning_rate")
    truth = np.array([numbers[name] for name in predictions["truth"]], dtype=np.int64)
    return Answers(truth, probabilities)
