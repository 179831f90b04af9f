"""VGG16's preprocessing as part of the graph: standard Keras only, so that any Keras reads the file."""

from typing import Literal

import keras

# Mean of ImageNet's training pixels in caffe's order, blue, green, red, as the published weights expect.
BGR_MEAN = (103.939, 116.779, 123.68)
INPUT = "image"
CHANNEL_ORDER = "rgb_to_bgr"
PREPROCESSING = "preprocessing"

Preprocessing = Literal["imagenet", "rescale"]


def attach(images: keras.KerasTensor, kind: Preprocessing) -> keras.KerasTensor:
    """What the first convolution sees, from RGB 0–255; float32 whatever the dtype policy.

    `imagenet` is BGR minus the mean; `rescale` is 1/255. Call `name_operations` on the finished model.
    """
    if kind == "rescale":
        return keras.layers.Rescaling(1.0 / 255.0, name=PREPROCESSING, dtype="float32")(images)
    offset = [-mean for mean in BGR_MEAN]
    bgr = keras.ops.flip(images, axis=-1)
    return keras.layers.Rescaling(1.0, offset=offset, name=PREPROCESSING, dtype="float32")(bgr)


def name_operations(model: keras.Model) -> None:
    """Gives the change of channel order a fixed name; Keras' running number makes equal models differ."""
    for operation in model.operations:
        if not isinstance(operation, keras.layers.Layer):
            operation.name = CHANNEL_ORDER


def root_mean_square(kind: Preprocessing) -> float:
    """Size of a preprocessed pixel of a photograph, roughly: what initial weights have to reckon with."""
    return 64.0 if kind == "imagenet" else 0.5
