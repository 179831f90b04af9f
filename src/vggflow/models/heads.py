"""What stands on the convolutions: `flatten`, `fc` or `pooling`, then logits, temperature, probabilities."""

import keras

from vggflow.models import vgg16
from vggflow.settings import ModelSettings

PREDICTIONS = "predictions"
TEMPERATURE = "temperature"
PROBABILITIES = "probabilities"


def attach(
    features: keras.KerasTensor, settings: ModelSettings, class_count: int, seed: int
) -> keras.KerasTensor:
    """Probabilities (N, 1) or (N, K), float32, from the features of `block5_pool`; `seed` is for dropout."""
    outputs = features
    for layer in [*_body(settings, seed), *_output(settings, class_count)]:
        outputs = layer(outputs)
    return outputs


def _body(settings: ModelSettings, seed: int) -> list[keras.layers.Layer]:
    layers: list[keras.layers.Layer]
    if settings.head == "fc":
        layers = vgg16.fully_connected_layers(settings.width)
    elif settings.head == "flatten":
        layers = [keras.layers.Flatten(name="flatten")]
    else:
        layers = [keras.layers.GlobalAveragePooling2D(name="global_pool")]
    if settings.dropout > 0.0:
        # Its place directly before the output keeps every layer that can be frozen free of randomness.
        layers.append(keras.layers.Dropout(settings.dropout, seed=seed, name="dropout"))
    return layers


def _output(settings: ModelSettings, class_count: int) -> list[keras.layers.Layer]:
    """Float32 whatever the dtype policy: probabilities in float16 would saturate at 1."""
    units, activation = output_form(settings, class_count)
    return [
        keras.layers.Dense(units, name=PREDICTIONS, dtype="float32"),
        # There from the start, so that calibration changes a number and no structure.
        keras.layers.Rescaling(1.0, name=TEMPERATURE, dtype="float32"),
        keras.layers.Activation(activation, name=PROBABILITIES, dtype="float32"),
    ]


def output_form(settings: ModelSettings, class_count: int) -> tuple[int, str]:
    """Units and activation of the output: one sigmoid unit, or a softmax over the classes."""
    if class_count == 2 and settings.two_class_output == "sigmoid":
        return 1, "sigmoid"
    return class_count, "softmax"


def temperature(model: keras.Model) -> float:
    """The calibration temperature in the graph of a model that `builder.build` made."""
    return 1.0 / float(model.get_layer(TEMPERATURE).scale)


def set_temperature(model: keras.Model, value: float) -> None:
    """Divides the logits by `value` > 0 from now on (Guo et al., arXiv:1706.04599)."""
    if not value > 0.0:
        raise ValueError(f"a temperature is greater than 0, got {value}")
    model.get_layer(TEMPERATURE).scale = 1.0 / value
    # Functions that Keras compiled earlier hold the old value as a constant.
    model.predict_function = model.test_function = model.train_function = None
