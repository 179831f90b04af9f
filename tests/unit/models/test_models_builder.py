"""Settings in, network out."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from vggflow.errors import SettingsError, UsageError
from vggflow.models import builder, heads
from vggflow.settings import ModelSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
TINY = {"image_size_px": 32, "weights": "none", "width": 0.0625, "builder": "sequential"}


@pytest.fixture(params=["float32", "mixed_float16"])
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def tiny(classes: tuple[str, ...] = ("cats", "dogs"), seed: int = 0, **changes: Any) -> keras.Model:
    return builder.build(ModelSettings(**{**TINY, **changes}), classes, seed=seed)


def outputs(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(PIXELS, verbose=0))


@pytest.mark.parametrize(
    ("classes", "two_class_output", "shape"),
    [
        (("cats", "dogs"), "sigmoid", (3, 1)),
        (("cats", "dogs"), "softmax", (3, 2)),
        (("cats", "dogs", "hens"), "sigmoid", (3, 3)),
    ],
)
@pytest.mark.parametrize("head", ["flatten", "fc", "pooling"])
def test_every_head_gives_probabilities_for_two_or_more_classes(head, classes, two_class_output, shape):
    probabilities = outputs(tiny(classes, head=head, two_class_output=two_class_output))
    assert probabilities.shape == shape
    assert probabilities.min() >= 0.0
    assert probabilities.max() <= 1.0
    if shape[1] > 1:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("head", ["flatten", "fc", "pooling"])
def test_both_builders_give_the_same_layers_and_initial_weights(head):
    ours = tiny(head=head, width=1.0)
    theirs = tiny(head=head, width=1.0, builder="keras")
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_layers_are_flat_and_named_as_in_keras():
    assert [layer.name for layer in tiny(head="fc", dropout=0.5).layers][-9:] == [
        "block5_conv3",
        "block5_pool",
        "flatten",
        "fc1",
        "fc2",
        "dropout",
        "predictions",
        "temperature",
        "probabilities",
    ]


def test_a_seed_gives_the_same_weights_again_and_another_seed_others():
    first, again, other = tiny(seed=1), tiny(seed=1), tiny(seed=2)
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize("preprocessing", ["imagenet", "rescale"])
def test_initial_weights_keep_the_activations_near_one_in_every_block(preprocessing):
    model = tiny(width=0.5, preprocessing=preprocessing)
    pools = keras.Model(
        model.inputs[0], [model.get_layer(f"block{block}_pool").output for block in range(1, 6)]
    )
    for features in pools.predict(PIXELS, verbose=0):
        assert 0.2 < np.sqrt(np.mean(np.square(features))) < 5.0


def test_preprocessing_and_probabilities_are_float32_whatever_the_policy(policy):
    model = tiny()
    assert model.get_layer("block1_conv1").compute_dtype == policy.removeprefix("mixed_")
    for name in ("preprocessing", "predictions", "temperature", "probabilities"):
        assert model.get_layer(name).compute_dtype == "float32"
    assert outputs(model).dtype == np.float32


def test_floats_and_bytes_of_the_same_pixels_give_the_same_probabilities():
    model = tiny()
    np.testing.assert_array_equal(outputs(model), model.predict(PIXELS.astype(np.float32), verbose=0))


def test_the_temperature_divides_the_logits_also_after_a_first_prediction():
    model = tiny()
    before = outputs(model).astype(np.float64)
    heads.set_temperature(model, 2.5)
    after = outputs(model).astype(np.float64)
    logits = np.log(before / (1 - before))
    np.testing.assert_allclose(np.log(after / (1 - after)), logits / 2.5, rtol=1e-4)
    assert heads.temperature(model) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="greater than 0, got 0"):
        heads.set_temperature(model, 0.0)


def test_frozen_layers_end_with_the_named_one_and_include_everything_before():
    model = tiny(padding="explicit")
    frozen = [layer.name for layer in builder.frozen_layers(model, "block1_conv2")]
    assert frozen[-4:] == ["block1_conv1_pad", "block1_conv1", "block1_conv2_pad", "block1_conv2"]
    assert builder.frozen_layers(model, "none") == []


def test_an_unknown_layer_to_freeze_is_refused_with_the_names_that_exist():
    with pytest.raises(SettingsError, match=r"`block6_conv1`, expected none or one of: block1_conv1, .*fc2$"):
        builder.frozen_layers(tiny(head="fc"), "block6_conv1")


def test_one_class_is_not_enough():
    with pytest.raises(UsageError, match="two classes or more, got cats"):
        tiny(("cats",))
