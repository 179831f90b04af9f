"""Settings in, network out: raw RGB pixels to probabilities."""

from collections.abc import Sequence
from pathlib import Path

import keras

from vggflow.errors import SettingsError, UsageError
from vggflow.models import heads, initial, preprocessing, start_weights, vgg16
from vggflow.settings import ModelSettings


def build(
    settings: ModelSettings, class_names: Sequence[str], weights_folder: Path | None = None, seed: int = 0
) -> keras.Model:
    """The uncompiled network with its start weights, all layers in one level and named as in Keras.

    Takes RGB pixels 0–255 (N, S, S, 3), float or uint8. Gives float32 probabilities: (N, 1), of the second
    class, or (N, K). The same seed gives the same initial weights in either builder and on every backend.

    Raises:
        WeightsError: the start weights are missing or don't fit.
    """
    if len(class_names) < 2:
        raise UsageError(f"a classifier needs two classes or more, got {', '.join(class_names) or 'none'}")
    model = network(settings, len(class_names), seed)
    loaded = start_weights.load(model, settings, class_names, weights_folder)
    # What Keras drew for these is another on another backend.
    fresh = [layer for layer in model.layers if layer.name not in loaded and layer.weights]
    initial.initialise(fresh, seed, settings.preprocessing)
    return model


def network(settings: ModelSettings, class_count: int, seed: int = 0) -> keras.Model:
    """The network of `build` with whatever weights Keras gives it: enough to look at shapes and counts."""
    size = settings.image_size_px
    images = keras.Input((size, size, 3), name=preprocessing.INPUT, dtype="float32")
    pixels = preprocessing.attach(images, settings.preprocessing)
    outputs = heads.attach(_features(pixels, settings), settings, class_count, seed)
    model = keras.Model(images, outputs, name="vgg16")
    preprocessing.name_operations(model)
    return model


def _features(pixels: keras.KerasTensor, settings: ModelSettings) -> keras.KerasTensor:
    if settings.builder == "keras":
        # `input_tensor` keeps the layers flat, so they can be frozen, cut and loaded by name.
        base = keras.applications.VGG16(include_top=False, weights=None, input_tensor=pixels)
        return base.outputs[0]
    features = pixels
    for layer in vgg16.convolutional_layers(settings.width, settings.padding):
        features = layer(features)
    return features


def freezable_names(model: keras.Model) -> tuple[str, ...]:
    """What `freeze_through` may name, in order: convolutions, poolings, the head before `predictions`."""
    kinds = (
        keras.layers.Conv2D,
        keras.layers.MaxPooling2D,
        keras.layers.GlobalAveragePooling2D,
        keras.layers.Flatten,
        keras.layers.Dense,
    )
    names = (layer.name for layer in model.layers if isinstance(layer, kinds))
    return tuple(name for name in names if name != heads.PREDICTIONS)


def frozen_layers(model: keras.Model, freeze_through: str) -> list[keras.layers.Layer]:
    """All layers from the input through the named one; none for `none`.

    Raises:
        SettingsError: the model has no such layer, or it is not one that can be frozen; names those that are.
    """
    if freeze_through == "none":
        return []
    names = freezable_names(model)
    if freeze_through not in names:
        raise SettingsError(
            f"freeze_through names `{freeze_through}`, expected none or one of: {', '.join(names)}"
        )
    last = [layer.name for layer in model.layers].index(freeze_through)
    return list(model.layers[: last + 1])
