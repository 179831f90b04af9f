import base64
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from vggflow.errors import DataError
from vggflow.prediction.predictor import Predictor
from vggflow.prediction.pyfunc import _load_pyfunc


def test_bytes_and_base64_text_give_label_and_probabilities(model_path, images):
    expected = Predictor(model_path).predict(images)
    encoded = [path.read_bytes() for path in images]
    text = [base64.b64encode(content).decode() for content in encoded]
    model = _load_pyfunc(str(model_path))
    as_bytes = [each.encode() for each in text]  # as MLflow hands `inputs` and `instances` over
    for column in (encoded, text, as_bytes, [encoded[0], *text[1:]]):
        answer = model.predict(pd.DataFrame({"image": column}))
        assert list(answer.columns) == ["label", "p:cats", "p:dogs"]
        np.testing.assert_array_equal(answer[["p:cats", "p:dogs"]].to_numpy(), expected)
        assert list(answer["label"]) == list(np.array(["cats", "dogs"])[expected.argmax(axis=1)])


def test_the_answer_keeps_the_index_of_the_question(model_path, images):
    question = pd.DataFrame({"image": [images[0].read_bytes()]}, index=["a"])
    assert list(_load_pyfunc(str(model_path)).predict(question, params={}).index) == ["a"]


def test_an_empty_question_has_an_empty_answer(model_path):
    answer = _load_pyfunc(str(model_path)).predict(pd.DataFrame({"image": []}))
    assert len(answer) == 0 and list(answer.columns) == ["label", "p:cats", "p:dogs"]


def test_a_folder_with_one_model_file_is_enough(model_path):
    assert _load_pyfunc(str(model_path.parent)).predictor.info.class_names == ("cats", "dogs")


def test_a_folder_without_a_model_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds 0 \.keras files"):
        _load_pyfunc(str(tmp_path))


@pytest.mark.parametrize("value", ["abcd!efgh", "abc", 3, None, "é"])
def test_what_is_no_encoded_image_is_refused_with_its_row(model_path, value):
    with pytest.raises(DataError, match="row 0 of `image`"):
        _load_pyfunc(str(model_path)).predict(pd.DataFrame({"image": [value]}))


def test_bytes_that_are_no_image_are_refused_with_their_place(model_path, images):
    question = pd.DataFrame({"image": [images[0].read_bytes(), b"no image"]})
    with pytest.raises(DataError, match="image 1, counted from 0: not a readable image"):
        _load_pyfunc(str(model_path)).predict(question)


def test_a_table_without_the_column_is_refused(model_path):
    with pytest.raises(DataError, match="column `image`"):
        _load_pyfunc(str(model_path)).predict(pd.DataFrame({"picture": [b""]}))


def test_the_loader_does_not_import_mlflow():
    code = "import sys, vggflow.prediction.pyfunc; print('mlflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
