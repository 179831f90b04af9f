"""The oracle against the articles, SciPy and Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy.signal import correlate

from vggflow.models import builder, vgg16, vgg16_in_numpy
from vggflow.settings import ModelSettings


def image(rows) -> np.ndarray:
    """A picture with one channel as a batch of one."""
    return np.array(rows, float)[None, :, :, None]


def weights_of(model: keras.Model) -> vgg16_in_numpy.Weights:
    return {layer.name: tuple(layer.get_weights()) for layer in model.layers if layer.weights}


def random_biases(model: keras.Model) -> None:
    """Fresh biases are zero, which would hide that one is left out."""
    for index, layer in enumerate(layer for layer in model.layers if layer.weights):
        layer.bias.assign(np.random.default_rng(index).normal(0, 0.1, layer.bias.shape))


def layer_outputs(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    every = keras.Model(model.inputs[0], [layer.output for layer in layers])
    return dict(zip([layer.name for layer in layers], every.predict(images, verbose=0), strict=True))


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float, name: str) -> None:
    """Equal within a share of the largest value, as single values of a layer may be near 0."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max(), err_msg=name)


def test_the_oracle_does_not_load_what_it_judges():
    program = (
        "import sys, vggflow.models.vgg16_in_numpy; print({'keras', 'vggflow.models.vgg16'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "function",
    [
        value
        for value in vars(vgg16_in_numpy).values()
        if getattr(value, "__module__", "") == vgg16_in_numpy.__name__
    ],
)
def test_every_layer_says_where_it_is_from(function):
    words = ("Source:", "The book, equation", "arXiv:")
    assert any(word in function.__doc__ for word in words), function.__name__


def test_max_pooling_of_the_article():
    picture = [
        [1, 4, 4, 1, 2, 2],
        [0, 4, 1, 2, 4, 2],
        [3, 1, 0, 3, 3, 0],
        [2, 0, 3, 1, 3, 4],
        [0, 0, 4, 0, 1, 1],
        [2, 0, 3, 1, 2, 1],
    ]
    pooled = vgg16_in_numpy.max_pooling(image(picture))
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[4, 4, 4], [3, 3, 4], [2, 4, 2]])


def test_an_odd_row_and_column_fall_away_as_in_keras():
    picture = np.random.default_rng(0).normal(size=(2, 5, 7, 3))
    keras_pooled = keras.layers.MaxPooling2D()(picture.astype(np.float32))
    np.testing.assert_allclose(vgg16_in_numpy.max_pooling(picture), keras_pooled, rtol=1e-6)


def test_softmax_of_the_article():
    expected = [
        2.63865019e-04,
        1.06450746e-01,
        7.86570537e-01,
        2.63865019e-04,
        1.06450746e-01,
        2.40613752e-07,
    ]
    found = vgg16_in_numpy.softmax(np.array([8.0, 14.0, 16.0, 8.0, 14.0, 1.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_softmax_and_sigmoid_of_large_logits_do_not_overflow():
    np.testing.assert_array_equal(vgg16_in_numpy.softmax(np.array([[1e4, 0.0]])), [[1.0, 0.0]])
    np.testing.assert_allclose(
        vgg16_in_numpy.sigmoid(np.array([-1e4, 0.0, np.log(3), 1e4])), [0.0, 0.5, 0.75, 1.0]
    )


def test_relu_of_the_article():
    values = np.array([[-0.49835121, -0.27024171, -0.00921487], [-0.222737, 0.2307323, -0.14144912]])
    np.testing.assert_array_equal(vgg16_in_numpy.relu(values), [[0, 0, 0], [0, 0.2307323, 0]])


def test_convolution_with_the_kernel_of_the_article_is_scipys_correlation():
    kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]], float)
    picture = np.array(
        [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], float
    )
    found = vgg16_in_numpy.convolution(image(picture), kernel[:, :, None, None], np.zeros(1))
    assert found.shape == (1, 3, 3, 1)
    np.testing.assert_array_equal(found[0, :, :, 0], correlate(picture, kernel, mode="valid"))


def test_convolution_sums_over_channels_and_adds_the_bias():
    generator = np.random.default_rng(0)
    pictures, kernel = generator.normal(size=(2, 6, 5, 3)), generator.normal(size=(3, 3, 3, 4))
    bias = generator.normal(size=4)
    expected = [
        [
            correlate(picture, kernel[..., filter_], mode="valid")[:, :, 0] + bias[filter_]
            for filter_ in range(4)
        ]
        for picture in pictures
    ]
    found = vgg16_in_numpy.convolution(pictures, kernel, bias)
    np.testing.assert_allclose(found, np.moveaxis(np.array(expected), 1, -1), rtol=1e-12)


@pytest.mark.parametrize("two_class_output", ["sigmoid", "softmax"])
def test_the_forward_pass_equals_keras_for_all_sixteen_layers(two_class_output):
    settings = ModelSettings(
        image_size_px=32,
        weights="none",
        head="fc",
        width=0.25,
        builder="sequential",
        two_class_output=two_class_output,
    )
    model = builder.build(settings, ["cats", "dogs"])
    random_biases(model)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    in_keras = layer_outputs(model, pixels)
    in_keras["predictions"] = in_keras["probabilities"]
    in_numpy = dict(vgg16_in_numpy.layers(vgg16_in_numpy.preprocess(pixels), weights_of(model)))
    assert [name for name in in_numpy if "pool" not in name and name != "flatten"] == [
        *vgg16.CONVOLUTION_NAMES,
        "fc1",
        "fc2",
        "predictions",
    ]
    for name, expected in in_numpy.items():
        assert_close(in_keras[name], expected, 1e-4, name)
    np.testing.assert_allclose(
        vgg16_in_numpy.forward(pixels, weights_of(model)), in_keras["probabilities"], rtol=1e-4
    )


@pytest.mark.slow
def test_the_forward_pass_equals_keras_at_the_published_size():
    model = vgg16.sequential(1000)
    random_biases(model)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3))
    found = model.predict(vgg16_in_numpy.preprocess(pixels), verbose=0)
    np.testing.assert_allclose(found, vgg16_in_numpy.forward(pixels, weights_of(model)), rtol=1e-4)


@pytest.mark.parametrize("padding", ["same", "explicit"])
def test_keras_applications_and_the_sequential_agree_after_every_layer(padding):
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    random_biases(theirs)
    ours = vgg16.sequential(None, 32, padding=padding)
    for layer in theirs.layers:
        ours.get_layer(layer.name).set_weights(layer.get_weights()) if layer.weights else None
    images = vgg16_in_numpy.preprocess(np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)))
    expected, found = layer_outputs(theirs, images), layer_outputs(ours, images)
    assert len(expected) == 18
    for name, values in expected.items():
        assert_close(found[name], values, 1e-5, name)


@pytest.mark.slow
def test_keras_applications_with_its_top_agrees_with_the_sequential_after_every_layer():
    theirs = keras.applications.VGG16(weights=None)
    ours = vgg16.sequential(1000)
    ours.set_weights(theirs.get_weights())
    images = vgg16_in_numpy.preprocess(np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3)))
    expected, found = layer_outputs(theirs, images), layer_outputs(ours, images)
    assert len(expected) == 22
    for name, values in expected.items():
        assert_close(found[name], values, 1e-5, name)
