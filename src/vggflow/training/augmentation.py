"""Random changes of pixels as Keras layers: they run on the device, their state is in the checkpoint."""

from collections.abc import Callable
from typing import Any

import keras

from vggflow.settings import AugmentationSettings

VALUE_RANGE = (0, 255)
PREFIX = "augment_"


def layers(settings: AugmentationSettings, seed: int) -> list[keras.layers.Layer]:
    """The layers that change pixels 0–255 of shape (N, S, S, 3) in training, and else pass them on unchanged.

    What comes in from outside the picture continues its edge. Equal seeds give equal changes.
    """
    make: dict[str, Callable[..., keras.layers.Layer]] = {
        "horizontal_flip": lambda _, **named: keras.layers.RandomFlip("horizontal", **named),
        "shear": lambda most, **named: keras.layers.RandomShear(most, most, **_edge(named)),
        "zoom": lambda most, **named: keras.layers.RandomZoom(most, **_edge(named)),
        "rotation": lambda most, **named: keras.layers.RandomRotation(most, **_edge(named)),
        "brightness": lambda most, **named: keras.layers.RandomBrightness(most, VALUE_RANGE, **named),
    }
    # In the order of the settings' fields, so that equal settings give the same network.
    wanted = {kind: most for kind, most in settings if most}
    made = [make[kind](most, seed=seed, name=f"{PREFIX}{kind}") for kind, most in wanted.items()]
    if keras.backend.backend() == "jax":
        for layer in made:
            # Keras says no of some for TensorFlow's sake; one such layer would leave the whole network uncompiled.
            layer.supports_jit = True
    return made


def _edge(named: dict[str, Any]) -> dict[str, Any]:
    return {"fill_mode": "nearest", **named}
