import base64
import json
import subprocess
import sys
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vggflow.errors import DataError
from vggflow.prediction.predictor import Predictor
from vggflow.prediction.pyfunc import _load_pyfunc


def test_every_form_of_a_question_gives_label_and_probabilities(model_path, images):
    expected = Predictor(model_path).predict(images)
    encoded = [path.read_bytes() for path in images]
    text = [base64.b64encode(content).decode() for content in encoded]
    model = _load_pyfunc(str(model_path))
    as_bytes = [each.encode() for each in text]  # as MLflow hands `inputs` and `instances` over
    columns = (encoded, text, as_bytes, [encoded[0], *text[1:]], [{"b64": each} for each in text])
    for question in (
        *(pd.DataFrame({"image": column}) for column in columns),
        pd.DataFrame({"id": range(5), "image": text}),
        *(
            text,
            np.array(text),
            {"image": text},
            {"image": np.array(text), "id": [1]},
            {"b64": np.array(text)},
        ),
        *([{"image": each} for each in text], [{"b64": each} for each in text]),
    ):
        answer = model.predict(question)
        assert list(answer.columns) == ["label", "p:cats", "p:dogs", "error"]
        np.testing.assert_array_equal(answer[["p:cats", "p:dogs"]].to_numpy(), expected)
        assert list(answer["label"]) == list(np.array(["cats", "dogs"])[expected.argmax(axis=1)])
        assert answer["error"].isna().all()


def test_pixels_are_asked_for_what_their_file_would_be(model_path, images):
    model = _load_pyfunc(str(model_path))
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    expected = Predictor(model_path).predict(images)
    equal = np.stack([pixels[0], pixels[3][:, : pixels[0].shape[1]]])
    for question in (
        pd.DataFrame({"image": pixels}),
        pd.DataFrame({"image": [each.tolist() for each in pixels]}),
        [each.astype(float) for each in pixels],
    ):
        np.testing.assert_array_equal(model.predict(question)[["p:cats", "p:dogs"]].to_numpy(), expected)
    assert len(model.predict(equal)) == 2
    np.testing.assert_allclose(model.predict(pixels[0])["p:cats"], expected[:1, 0], atol=1e-6)


def test_a_good_a_bad_and_a_good_image_are_two_answers_and_a_reason(model_path, images):
    model = _load_pyfunc(str(model_path))
    good = images[0].read_bytes()
    answer = model.predict(pd.DataFrame({"image": [good, b"no image", good]}, index=["a", "b", "c"]))
    assert list(answer["error"]) == [None, "not an image of a known format", None]
    assert list(answer.loc["b", ["label", "p:cats", "p:dogs"]]) == [None, None, None]
    expected = Predictor(model_path).predict([good, good])
    np.testing.assert_array_equal(answer.loc[["a", "c"], ["p:cats", "p:dogs"]].astype(float), expected)
    assert json.loads(json.dumps(answer.to_dict(orient="records"), allow_nan=False))[1]["p:cats"] is None


def test_a_network_that_overflows_is_told_without_a_path(model_path, images, monkeypatch):
    model = _load_pyfunc(str(model_path))
    network = SimpleNamespace(predict_on_batch=lambda batch: np.full((len(batch), 1), np.nan))
    monkeypatch.setattr(model.predictor, "_network", network)
    with pytest.raises(mlflow.exceptions.MlflowException, match="numbers that are not finite") as error:
        model.predict([images[0].read_bytes()])
    assert str(model_path.parent) not in str(error.value)


def test_a_model_has_answered_when_it_is_loaded(model_path, monkeypatch):
    answered = []
    ask = Predictor.ask
    monkeypatch.setattr(Predictor, "ask", lambda *given: answered.append(1) or ask(*given))
    _load_pyfunc(str(model_path))
    assert answered == [1]


def test_the_answer_keeps_the_index_of_the_question(model_path, images):
    question = pd.DataFrame({"image": [images[0].read_bytes()]}, index=["a"])
    assert list(_load_pyfunc(str(model_path)).predict(question, params={}).index) == ["a"]


def test_an_empty_question_has_an_empty_answer(model_path):
    answer = _load_pyfunc(str(model_path)).predict(pd.DataFrame({"image": []}))
    assert len(answer) == 0 and list(answer.columns) == ["label", "p:cats", "p:dogs", "error"]


def test_a_folder_with_one_model_file_is_enough(model_path):
    assert _load_pyfunc(str(model_path.parent)).predictor.info.class_names == ("cats", "dogs")


def test_a_folder_without_a_model_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds 0 \.keras files"):
        _load_pyfunc(str(tmp_path))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *((value, "base64") for value in ("abcd!efgh", "abc", 3, None, "é", float("nan"), {"image": "abcd"})),
        *((value, "pixels") for value in ([], [1, 2], [[[1, 2]]], [[[256, 0, 0]]], [[[0.5, 0, 0]]])),
        *((value, "pixels") for value in ([[[1, 2, 3]], [[1]]], [[["a", "b", "c"]]], [[[float("nan")] * 3]])),
    ],
)
def test_what_is_no_image_is_a_row_with_its_reason(model_path, value, reason):
    answer = _load_pyfunc(str(model_path)).predict(pd.DataFrame({"image": [value]}))
    assert reason in answer.loc[0, "error"]
    assert answer.loc[0, "label"] is None


@pytest.mark.parametrize(
    ("question", "params", "word"),
    [
        (pd.DataFrame({"picture": [b""]}), None, "column `image` of images, got picture"),
        ({"picture": [b""]}, None, "column `image`"),
        ([{"picture": "a"}], None, "column `image`"),
        (3, None, "expected images, got int"),
        (None, None, "expected images"),
        (pd.DataFrame({"image": []}), {"threshold": 1}, "params threshold: this model takes none"),
    ],
)
def test_a_question_that_asks_nothing_is_refused(model_path, question, params, word):
    with pytest.raises((DataError, mlflow.exceptions.MlflowException), match=word):
        _load_pyfunc(str(model_path)).predict(question, params=params)


def test_the_loader_does_not_import_mlflow():
    code = "import sys, vggflow.prediction.pyfunc; print('mlflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
