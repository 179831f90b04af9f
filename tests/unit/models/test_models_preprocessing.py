"""Preprocessing in the graph: the same outputs from the same JPEG through every door."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from vggflow.data import images
from vggflow.models import builder, files, preprocessing, vgg16_in_numpy
from vggflow.models.files import ModelInfo
from vggflow.settings import ModelSettings

TENSORFLOW = keras.backend.backend() == "tensorflow"


def tiny(kind: str = "imagenet") -> keras.Model:
    settings = ModelSettings(
        image_size_px=32, weights="none", width=0.0625, builder="sequential", preprocessing=kind
    )
    return builder.build(settings, ["cats", "dogs"])


def jpeg_pixels() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).resize((300, 200)).save(content, "JPEG", quality=90)
    return images.pixels(images.open_image(content.getvalue()), 32)[None]


def preprocessed(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    part = keras.Model(model.inputs[0], model.get_layer(preprocessing.PREPROCESSING).output)
    return keras.ops.convert_to_numpy(part(pixels))


def test_imagenet_preprocessing_is_that_of_keras_and_of_the_reference():
    pixels = jpeg_pixels()
    found = preprocessed(tiny(), pixels)
    expected = keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, vgg16_in_numpy.preprocess(pixels), atol=1e-4)


def test_rescale_divides_by_255_and_keeps_the_order_of_the_channels():
    pixels = jpeg_pixels()
    np.testing.assert_allclose(preprocessed(tiny("rescale"), pixels), pixels / 255.0, atol=1e-7)


@pytest.mark.parametrize("kind", ["imagenet", "rescale"])
def test_eager_predicted_and_reloaded_give_the_same_outputs(tmp_path, kind):
    model, pixels = tiny(kind), jpeg_pixels()
    files.save(model, ModelInfo(("cats", "dogs"), 32, "stretch", kind), tmp_path / "model.keras")
    reloaded, _ = files.load(tmp_path / "model.keras")
    eager = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(model.predict(pixels, verbose=0), eager, rtol=1e-6)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(reloaded(pixels)), eager)
    np.testing.assert_array_equal(preprocessed(reloaded, pixels), preprocessed(model, pixels))


@pytest.mark.skipif(not TENSORFLOW, reason="a network of another backend can't run inside tf.data")
@pytest.mark.parametrize("kind", ["imagenet", "rescale"])
def test_inside_tf_data_it_gives_the_same_outputs(kind):
    import tensorflow as tf

    model, pixels = tiny(kind), jpeg_pixels()
    mapped = tf.data.Dataset.from_tensors(pixels).map(model)
    (inside,) = mapped.as_numpy_iterator()
    np.testing.assert_allclose(inside, keras.ops.convert_to_numpy(model(pixels)), rtol=1e-6)


def test_equal_models_have_equal_names_whatever_was_built_before():
    first, second = tiny(), tiny()
    assert [operation.name for operation in first.operations] == [
        operation.name for operation in second.operations
    ]
    assert first.operations[1].name == "rgb_to_bgr"
