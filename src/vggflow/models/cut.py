"""The network cut in two: a frozen prefix whose outputs can be kept, and a suffix that learns from them."""

from collections.abc import Sequence

import keras
import numpy as np

from vggflow.models.onnx_files import FEATURES, PROBABILITIES

# How VGG16's blocks end, whatever stands on them.
BLOCK_ENDS = tuple(f"block{block}_pool" for block in range(1, 6))


def cheapest_cut(model: keras.Model, frozen: Sequence[keras.layers.Layer]) -> str | None:
    """The layer after which to cut: the last frozen one, or one that follows, computes alike and gives less.

    Layers without weights and without randomness give the same in every epoch, so they may come before the
    cut: the pooling after a block makes features 4 times smaller. None where nothing is frozen.
    """
    if not frozen:
        return None
    start = [layer.name for layer in model.layers].index(frozen[-1].name)
    best = model.layers[start]
    for layer in model.layers[start + 1 :]:
        if layer.variables or not _is_pooling(layer):
            break
        # Flatten gives as much as it takes, so it is passed over and never the cut.
        if _size(layer) < _size(best):
            best = layer
    return str(best.name)


def _is_pooling(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.MaxPooling2D, keras.layers.GlobalAveragePooling2D, keras.layers.Flatten)
    return isinstance(layer, kinds)


def _size(layer: keras.layers.Layer) -> int:
    return int(np.prod(layer.output.shape[1:]))


def feature_shape(model: keras.Model, cut: str) -> tuple[int, ...]:
    """The shape of one image's features after the layer `cut`."""
    return tuple(int(length) for length in model.get_layer(cut).output.shape[1:])


def prefix(model: keras.Model, cuts: Sequence[str]) -> keras.Model:
    """From pixels to the features at each cut, a list where there are several; shares the model's weights."""
    # The first input itself: made from a list, Keras expects a list at every call, and else warns.
    outputs = [model.get_layer(cut).output for cut in cuts]
    return keras.Model(model.inputs[0], outputs if len(outputs) > 1 else outputs[0], name="prefix")


def layers_before(model: keras.Model, cut: str) -> list[str]:
    """The names of the layers up to the cut, itself among them."""
    names = [layer.name for layer in model.layers]
    return names[: names.index(cut) + 1]


def suffix(model: keras.Model, cut: str | None, through: str | None = None) -> keras.Model:
    """From the features at the cut (None: from pixels) to probabilities, or what the layer `through` gives.

    Shares the model's weights.
    """
    # Keras puts an input of its own in place of a tensor from the middle; the layers are shared.
    inputs = model.inputs[0] if cut is None else model.get_layer(cut).output
    outputs = model.outputs[0] if through is None else model.get_layer(through).output
    return keras.Model(inputs, outputs, name="suffix")


def uncut(model: keras.Model, cut: str | None, before: Sequence[keras.layers.Layer] = ()) -> keras.Model:
    """From pixels through the layers `before` and the model to probabilities.

    The same two parts as with cached features, joined: nothing in the prefix is random, so both learn alike.
    """
    images = keras.Input(model.inputs[0].shape[1:], name="pixels")
    features = images
    for layer in before:
        features = layer(features)
    if cut is not None:
        features = prefix(model, [cut])(features)
    return keras.Model(images, suffix(model, cut)(features))


def with_features(model: keras.Model) -> keras.Model | None:
    """The same network with a second output: what each block gives, averaged over the picture, shape (N, F).

    Of all blocks, since they see different things: the first ones light, colour and sharpness, the last one what is in
    the picture, and a fine-tuned one cares little for the rest. Its outputs have the names that an exported graph
    gives them. None where the network is none of ours.
    """
    if not {layer.name for layer in model.layers}.issuperset(BLOCK_ENDS):
        return None
    averages = [
        keras.layers.GlobalAveragePooling2D(name=f"{end}_average", dtype="float32")(
            model.get_layer(end).output
        )
        for end in BLOCK_ENDS
    ]
    features = keras.layers.Concatenate(name=FEATURES, dtype="float32")(averages)
    return keras.Model(model.inputs[0], {PROBABILITIES: model.outputs[0], FEATURES: features})
