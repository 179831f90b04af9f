"""From what a network puts out to one probability per class. Needs no Keras."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

# Of the calibration temperature: at a bound something else than the sharpness of the probabilities is wrong.
LOWEST, HIGHEST = 0.1, 10.0


def class_probabilities(outputs: Any) -> NDArray[np.float64]:
    """Probabilities (N, K), float64, from outputs (N, 1), the sigmoid of the second class, or (N, K)."""
    values = np.asarray(outputs, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"expected outputs of shape (N, 1) or (N, K), got {values.shape}")
    if values.shape[1] == 1:
        return np.concatenate([1.0 - values, values], axis=1)
    # Rows of float32 add up to 1 within 1e-7 only, which scikit-learn takes for an error.
    return cast("NDArray[np.float64]", values / values.sum(axis=1, keepdims=True))
