"""A Keras model that gives its pooled features with every answer, as an exported graph does."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggflow.models.full_precision import full_float32
from vggflow.models.onnx_files import FEATURES, PROBABILITIES
from vggflow.prediction.predictor import Predictor


class FeaturePredictor(Predictor):
    """For many images on a GPU, where Keras is faster than the graph."""

    @cached_property
    def _with_features(self) -> Any:
        from vggflow.models import cut

        return cut.with_features(self.network)

    def _outputs(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        network = self._with_features
        if network is None:
            return super()._outputs(batch)
        with full_float32():
            found = network.predict_on_batch(batch)
        return np.asarray(found[PROBABILITIES]), np.asarray(found[FEATURES])
