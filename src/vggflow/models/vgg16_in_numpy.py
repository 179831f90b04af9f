"""VGG16's layers in NumPy, written for reading: what the network computes, without a framework.

They are the oracle of the tests, not a second engine. Images are (N, H, W, C), values float64. "The book" is
I. Goodfellow, Y. Bengio, A. Courville, "Deep Learning", MIT Press, 2016.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

# Table 1, column D of Simonyan and Zisserman, once more: the oracle takes nothing from what it judges.
CONVOLUTIONS = (2, 2, 3, 3, 3)
FC_NAMES = ("fc1", "fc2")

Array = NDArray[np.float64]
# A layer's name to its kernel and bias.
Weights = Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]


def preprocess(rgb: NDArray[np.generic]) -> Array:
    """RGB 0–255 to what the published weights expect: BGR minus ImageNet's mean.

    Source: the network's page in Caffe's model zoo; `keras.applications.vgg16.preprocess_input`.
    """
    bgr: Array = np.asarray(rgb, np.float64)[..., ::-1]
    return np.subtract(bgr, [103.939, 116.779, 123.68])


def zero_padding(images: Array, pixels: int = 1) -> Array:
    """A border of zeros, so that a 3×3 kernel leaves the size as it is.

    Source: Simonyan and Zisserman, arXiv:1409.1556, section 2.1.
    """
    return np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))


def convolution(images: Array, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> Array:
    """Each kernel (h, w, C, F) slides over the image: (N, H, W, C) to (N, H - h + 1, W - w + 1, F).

    What networks call convolution is correlation, the kernel is not flipped. Source: the book, equation 9.6.
    """
    height, width = kernel.shape[:2]
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    result: Array = np.zeros((len(images), rows, columns, kernel.shape[3]))
    # A product of matrices for each place in the kernel, nine in all, rather than one for each pixel.
    for row in range(height):
        for column in range(width):
            # The part of the image that this weight of the kernel sees while the kernel slides.
            seen = images[:, row : row + rows, column : column + columns, :]
            result += seen @ kernel[row, column].astype(np.float64)
    result += bias
    return result


def relu(values: Array) -> Array:
    """Negative values become 0. Source: V. Nair, G. Hinton, ICML 2010; the book, section 6.3.1."""
    return np.maximum(values, 0.0)


def max_pooling(images: Array) -> Array:
    """The largest value of each 2×2 window, stride 2; an odd last row or column falls away.

    Source: Simonyan and Zisserman, arXiv:1409.1556, section 2.1; the book, section 9.3.
    """
    count, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2, :]
    windows = even.reshape(count, height // 2, 2, width // 2, 2, channels)
    return np.asarray(windows.max(axis=(2, 4)))


def flatten(images: Array) -> Array:
    """Rows, columns and channels of an image in one line: (N, H, W, C) to (N, H × W × C).

    Source: Keras' layer `Flatten`, whose order the kernel of the published fc1 follows.
    """
    return images.reshape(len(images), -1)


def dense(values: Array, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> Array:
    """Every input to every output: (N, I) to (N, O) with a kernel (I, O). Source: the book, section 6.1."""
    return values @ kernel.astype(np.float64) + bias


def softmax(logits: Array) -> Array:
    """Positive values that sum to 1 along the last axis. Source: the book, equation 6.29.

    Subtracting the largest logit changes nothing in the quotient and keeps `exp` from overflowing.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """A softmax of the logit and 0: the probability of the second of two classes. The book, equation 3.30."""
    return softmax(np.stack([np.zeros_like(logits), logits], axis=-1))[..., 1]


def layers(images: Array, weights: Weights) -> Iterator[tuple[str, Array]]:
    """Name and output of each layer in turn, `block1_conv1` to `predictions`, for preprocessed images.

    Source: Simonyan and Zisserman, arXiv:1409.1556, table 1, column D; the names are Keras'.
    """
    values = images
    for block, count in enumerate(CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            values = relu(convolution(zero_padding(values), *weights[name]))
            yield name, values
        values = max_pooling(values)
        yield f"block{block}_pool", values
    values = flatten(values)
    yield "flatten", values
    for name in FC_NAMES:
        if name in weights:
            values = relu(dense(values, *weights[name]))
            yield name, values
    logits = dense(values, *weights["predictions"])
    yield "predictions", sigmoid(logits) if logits.shape[1] == 1 else softmax(logits)


def forward(rgb: NDArray[np.generic], weights: Weights) -> Array:
    """RGB images (N, S, S, 3), 0–255, to probabilities (N, 1) or (N, K): the whole network.

    Source: Simonyan and Zisserman, arXiv:1409.1556, section 2.1.
    """
    *_, (_, probabilities) = layers(preprocess(rgb), weights)
    return probabilities
