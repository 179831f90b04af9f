"""Rows of an array in memory, gathered as those of the feature cache are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayRows:
    """`vggflow.features.batches.Rows` of an array."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The rows with these numbers, in this order."""
        return self._rows[indices]
