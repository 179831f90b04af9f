import subprocess
import sys

import numpy as np
import pytest

from vggflow.data.images import load
from vggflow.errors import DataError
from vggflow.prediction.predictor import Predictor


def test_probabilities_are_those_of_the_network_in_the_order_of_the_images(model_path, images):
    from vggflow.models import files

    network, info = files.load(model_path)
    second = np.concatenate(
        [
            np.asarray(network(load(path, info.image_size_px, info.resize)[None].astype("float32")))[:, 0]
            for path in images
        ]
    )
    probabilities = Predictor(model_path).predict(images, batch_size=2)
    assert probabilities.shape == (5, 2)
    assert np.ptp(probabilities[:, 1]) > 0.01
    np.testing.assert_allclose(probabilities[:, 1], second, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_the_size_of_batches_does_not_change_the_answers(three_class_model_path, images):
    predictor = Predictor(three_class_model_path)
    np.testing.assert_allclose(predictor.predict(images, 1), predictor.predict(images, 64), atol=1e-6)
    assert predictor.predict(images).shape == (5, 3)


def test_encoded_bytes_and_their_file_give_the_same(model_path, images):
    predictor = Predictor(model_path)
    bytes_of = [path.read_bytes() for path in images]
    np.testing.assert_array_equal(predictor.predict(bytes_of), predictor.predict(images))


def test_progress_is_told_after_every_batch(model_path, images):
    told = []
    Predictor(model_path).predict(
        images, batch_size=2, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_an_unreadable_image_is_named(model_path, images, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(images[0].read_bytes()[:100])
    with pytest.raises(DataError, match=r"broken\.jpg: not a readable image") as error:
        Predictor(model_path).predict([*images, broken])
    assert "\n" not in str(error.value)


def test_no_images_give_an_empty_table(model_path):
    assert Predictor(model_path).predict([]).shape == (0, 2)


def test_reading_what_a_model_knows_does_not_import_keras(model_path):
    code = (
        "import sys; from pathlib import Path; from vggflow.prediction.predictor import Predictor;"
        f"print(Predictor(Path({str(model_path)!r})).info.class_names, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('cats', 'dogs') False"
