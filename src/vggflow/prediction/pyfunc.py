"""The loader module of the MLflow model: images in, labels and probabilities out.

MLflow calls `_load_pyfunc`; nothing here imports MLflow, and the model is a `.keras` file read in safe mode. What
MLflow's server makes of a request comes here as it is, see `asked`; where an image can't be read, its row says why:
an exception would cost the other rows, and MLflow answers with its traceback.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.errors import DataError, VggflowError
from vggflow.prediction.predictor import Predictor
from vggflow.prediction.sent_image import BASE64_KEY, sent_image
from vggflow.prediction.table import ERROR, LABEL, labels_of, probability_column

IMAGE = "image"


class ImageModel:
    """What MLflow serves: the column `image` holds encoded images (JPEG, PNG, …), these in base64, or RGB pixels."""

    def __init__(self, model_path: Path) -> None:
        self.predictor = Predictor(model_path)
        # A server says that it is well when this is done: then the first to ask need not wait for the network.
        self.predictor.answer_once()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per image: `label`, the probability `p:<class>` of each class, and `error` where there is none.

        Args:
            model_input: A table with a column `image`, or what MLflow's server makes of `inputs` and `instances`.

        Raises:
            DataError: nothing in it could be images, or there are `params`: no answer depends on any.
            ModelFileError: the model answers with something else than numbers.
        """
        with _told_by_mlflow():
            if params:
                names = ", ".join(map(str, params))
                raise DataError(f"params {names}: this model takes none, leave them out")
            values, index = asked(model_input)
            return self._answer(values).set_axis(index)

    def _answer(self, values: Sequence[Any]) -> pd.DataFrame:
        found = [sent_image(value) for value in values]
        sources = [each for each in found if not isinstance(each, str)]
        names = list(self.predictor.info.class_names)
        probabilities = np.full((len(found), len(names)), np.nan)
        errors = [each if isinstance(each, str) else "" for each in found]
        rows = iter([row for row, each in enumerate(found) if not isinstance(each, str)])
        for part in self.predictor.answers(sources):
            # The rows last: `zip` would take one more of what comes first than it gives.
            for answer, error, row in zip(part.probabilities, part.errors, rows, strict=False):
                probabilities[row], errors[row] = answer, error
        return _table(names, probabilities, errors)


def _load_pyfunc(data_path: str) -> ImageModel:
    """Called by MLflow with the model file, or with the folder that it lies in."""
    path = Path(data_path)
    if not path.is_dir():
        return ImageModel(path)
    models = sorted(path.rglob("*.keras"))
    if len(models) != 1:
        raise DataError(f"{path} holds {len(models)} .keras files, expected one: log the model again")
    return ImageModel(models[0])


@contextmanager
def _told_by_mlflow() -> Iterator[None]:
    """Of any other exception MLflow's server answers with the traceback, and with it paths of the server."""
    try:
        yield
    except VggflowError as error:
        mlflow = sys.modules.get("mlflow.exceptions")
        if mlflow is None:
            raise
        raise mlflow.MlflowException.invalid_parameter_value(str(error)) from error


def asked(model_input: Any) -> tuple[Sequence[Any], pd.Index]:
    """The images of a question, one value each, and the index of its answer.

    A table comes of `dataframe_split` and `dataframe_records`; columns by name, or values alone, of `inputs` and
    `instances`. A batch of pixels has the shape (N, height, width, 3), a single image one dimension less.
    """
    if isinstance(model_input, pd.DataFrame):
        # Whoever joins the answer to the question would else get other rows' answers.
        return list(
            _column({str(name): model_input[name] for name in model_input.columns})
        ), model_input.index
    values = _column(model_input) if isinstance(model_input, Mapping) else model_input
    if isinstance(values, list) and values and all(isinstance(each, Mapping) for each in values):
        values = [_column(each) for each in values]
    if isinstance(values, str | bytes) or (isinstance(values, np.ndarray) and values.ndim in (0, 3)):
        values = [values]
    try:
        listed = list(values)
    except TypeError as error:
        raise DataError(f"expected images, got {type(values).__name__}") from error
    return listed, pd.RangeIndex(len(listed))


def _column(columns: Mapping[str, Any]) -> Any:
    for name in (IMAGE, BASE64_KEY):
        if name in columns:
            return columns[name]
    raise DataError(f"expected a column `{IMAGE}` of images, got {', '.join(map(str, columns)) or 'none'}")


def _table(names: Sequence[str], probabilities: NDArray[np.float64], errors: Sequence[str]) -> pd.DataFrame:
    columns = {probability_column(name): probabilities[:, place] for place, name in enumerate(names)}
    told = pd.Series([error or None for error in errors], dtype=object)
    table = pd.DataFrame(
        {LABEL: pd.Series(labels_of(probabilities, names), dtype=object), **columns, ERROR: told}
    )
    # In MLflow's answer a NaN would be a word that is no JSON.
    return table.astype(object).where(table.notna(), None) if any(errors) else table
