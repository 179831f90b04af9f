"""VGG16 from its block table, with the layer names of Keras.

Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556, table 1, column D. The names are those of `keras.applications.vgg16`: weights fit by name.
"""

from typing import Literal

import keras

CONVOLUTIONS = (2, 2, 3, 3, 3)
FILTERS = (64, 128, 256, 512, 512)
FC_UNITS = 4096

Padding = Literal["same", "explicit"]

CONVOLUTION_NAMES: tuple[str, ...] = tuple(
    f"block{block}_conv{number}"
    for block, count in enumerate(CONVOLUTIONS, start=1)
    for number in range(1, count + 1)
)
FC_NAMES = ("fc1", "fc2")


def scaled(units: int, width: float) -> int:
    """Filters or units of a network of this width (1.0 is VGG16), at least one."""
    return max(1, int(units * width))


def convolutional_layers(width: float = 1.0, padding: Padding = "same") -> list[keras.layers.Layer]:
    """The five blocks, `block1_conv1` to `block5_pool`, not yet connected.

    `explicit` padding is the articles' `ZeroPadding2D((1, 1))` before a convolution without padding: the same
    result, and a layer `blockN_convM_pad` before each convolution.
    """
    layers: list[keras.layers.Layer] = []
    for block, (count, filters) in enumerate(zip(CONVOLUTIONS, FILTERS, strict=True), start=1):
        for number in range(1, count + 1):
            layers += _convolution(f"block{block}_conv{number}", scaled(filters, width), padding)
        layers.append(keras.layers.MaxPooling2D((2, 2), strides=(2, 2), name=f"block{block}_pool"))
    return layers


def _convolution(name: str, filters: int, padding: Padding) -> list[keras.layers.Layer]:
    if padding == "same":
        return [keras.layers.Conv2D(filters, (3, 3), padding="same", activation="relu", name=name)]
    return [
        keras.layers.ZeroPadding2D((1, 1), name=f"{name}_pad"),
        keras.layers.Conv2D(filters, (3, 3), padding="valid", activation="relu", name=name),
    ]


def fully_connected_layers(width: float = 1.0) -> list[keras.layers.Layer]:
    """`flatten`, `fc1` and `fc2`: what stands between the blocks and `predictions`."""
    units = scaled(FC_UNITS, width)
    return [
        keras.layers.Flatten(name="flatten"),
        *(keras.layers.Dense(units, activation="relu", name=name) for name in FC_NAMES),
    ]


def sequential(
    classes: int | None = 1000, image_size_px: int = 224, width: float = 1.0, padding: Padding = "same"
) -> keras.Sequential:
    """The network of the articles as a `Sequential`, for preprocessed images (N, S, S, 3).

    Outputs (N, classes): softmax, or sigmoid for one class. `classes=None` ends with `block5_pool`'s features
    (N, S/32, S/32, 512 × width).
    """
    layers = [keras.Input((image_size_px, image_size_px, 3), name="image")]
    layers += convolutional_layers(width, padding)
    if classes is not None:
        activation = "sigmoid" if classes == 1 else "softmax"
        layers += fully_connected_layers(width)
        layers.append(keras.layers.Dense(classes, activation=activation, name="predictions"))
    return keras.Sequential(layers, name="vgg16")
