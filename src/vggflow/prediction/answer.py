"""One answer in words, as the command line prints it in JSON and the service sends it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def told(class_names: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The most probable class, the first one on a tie, its probability, and those of all.

    Args:
        class_names: The K classes.
        probabilities: Of one image, shape (K,).
    """
    best = int(probabilities.argmax())
    every = {name: float(value) for name, value in zip(class_names, probabilities, strict=True)}
    return {"label": class_names[best], "probability": float(probabilities[best]), "probabilities": every}
