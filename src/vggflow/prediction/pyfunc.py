"""The loader module of the MLflow model: encoded images in, labels and probabilities out.

MLflow calls `_load_pyfunc`; nothing here imports MLflow, and the model is a `.keras` file read in safe mode.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow.errors import DataError
from vggflow.prediction.predictor import Predictor
from vggflow.prediction.table import probability_column

IMAGE = "image"
LABEL = "label"
# No image file consists of these alone.
BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}\s*")


class ImageModel:
    """What MLflow serves: the column `image` holds the bytes of JPEG, PNG, … files, or these in base64."""

    def __init__(self, model_path: Path) -> None:
        self.predictor = Predictor(model_path)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per image: `label` and the probability `p:<class>` of each class.

        Raises:
            DataError: there is no column `image`, or a row of it can't be read as an image.
        """
        del params
        if not isinstance(model_input, pd.DataFrame) or IMAGE not in model_input.columns:
            raise DataError(f"expected a table with a column `{IMAGE}` of encoded images (JPEG, PNG, …)")
        sources = [_encoded(value, row) for row, value in enumerate(model_input[IMAGE])]
        probabilities = self.predictor.predict(sources)
        names = list(self.predictor.info.class_names)
        labels = [names[column] for column in probabilities.argmax(axis=1)] if len(sources) else []
        columns = {probability_column(name): probabilities[:, place] for place, name in enumerate(names)}
        # The index of the question: whoever joins the two tables would else get other rows' answers.
        return pd.DataFrame({LABEL: pd.Series(labels, dtype=object), **columns}).set_axis(model_input.index)


def _load_pyfunc(data_path: str) -> ImageModel:
    """Called by MLflow with the model file, or with the folder that it lies in."""
    path = Path(data_path)
    if not path.is_dir():
        return ImageModel(path)
    models = sorted(path.rglob("*.keras"))
    if len(models) != 1:
        raise DataError(f"{path} holds {len(models)} .keras files, expected one: log the model again")
    return ImageModel(models[0])


def _encoded(value: Any, row: int) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        # MLflow's server hands base64 text over as bytes where it is sent as `inputs` or `instances`.
        if not BASE64.fullmatch(content):
            return content
        value = content
    try:
        # Without `validate` it skips what is no base64, and a path given by mistake would become some bytes.
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise DataError(
            f"row {row} of `{IMAGE}` is neither bytes nor base64 text: send the encoded file"
        ) from error
