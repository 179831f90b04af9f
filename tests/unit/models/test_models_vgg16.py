"""The published layer table."""

import keras
import numpy as np
import pytest

from vggflow.models import builder, vgg16
from vggflow.settings import ModelSettings

pytestmark = pytest.mark.usefixtures("weights_of_zeros")
PUBLISHED = {
    "block1_conv1": ((None, 224, 224, 64), 1_792),
    "block1_conv2": ((None, 224, 224, 64), 36_928),
    "block1_pool": ((None, 112, 112, 64), 0),
    "block2_conv1": ((None, 112, 112, 128), 73_856),
    "block2_conv2": ((None, 112, 112, 128), 147_584),
    "block2_pool": ((None, 56, 56, 128), 0),
    "block3_conv1": ((None, 56, 56, 256), 295_168),
    "block3_conv2": ((None, 56, 56, 256), 590_080),
    "block3_conv3": ((None, 56, 56, 256), 590_080),
    "block3_pool": ((None, 28, 28, 256), 0),
    "block4_conv1": ((None, 28, 28, 512), 1_180_160),
    "block4_conv2": ((None, 28, 28, 512), 2_359_808),
    "block4_conv3": ((None, 28, 28, 512), 2_359_808),
    "block4_pool": ((None, 14, 14, 512), 0),
    "block5_conv1": ((None, 14, 14, 512), 2_359_808),
    "block5_conv2": ((None, 14, 14, 512), 2_359_808),
    "block5_conv3": ((None, 14, 14, 512), 2_359_808),
    "block5_pool": ((None, 7, 7, 512), 0),
    "flatten": ((None, 25_088), 0),
    "fc1": ((None, 4_096), 102_764_544),
    "fc2": ((None, 4_096), 16_781_312),
    "predictions": ((None, 1_000), 4_097_000),
}


def table(model: keras.Model) -> dict[str, tuple[tuple[int | None, ...], int]]:
    return {layer.name: (tuple(layer.output.shape), layer.count_params()) for layer in model.layers}


def built(head: str, builder_name: str) -> keras.Model:
    return builder.network(ModelSettings(head=head, builder=builder_name), 2)


def test_every_layer_has_the_published_shape_and_parameters():
    model = vgg16.sequential(1000)
    assert table(model) == PUBLISHED
    assert model.count_params() == 138_357_544


def test_padding_layers_change_no_shape_and_add_no_parameters():
    found = table(vgg16.sequential(1000, padding="explicit"))
    assert found["block3_conv1_pad"] == ((None, 58, 58, 128), 0)
    assert {name: row for name, row in found.items() if not name.endswith("_pad")} == PUBLISHED


def test_the_articles_counts_with_one_sigmoid_and_without_top():
    assert vgg16.sequential(1).count_params() == 134_264_641
    assert vgg16.sequential(None).count_params() == 14_714_688


@pytest.mark.parametrize("builder_name", [pytest.param("keras", marks=pytest.mark.slow), "sequential"])
def test_the_built_networks_have_the_published_shapes_and_counts(builder_name):
    found = table(built("fc", builder_name))
    for name in list(PUBLISHED)[:-1]:
        assert found[name] == PUBLISHED[name]
    assert built("fc", builder_name).count_params() == 134_264_641
    assert built("flatten", builder_name).count_params() == 14_739_777


@pytest.mark.parametrize("builder_name", ["keras", "sequential"])
def test_with_frozen_convolutions_the_flatten_head_learns_25089_parameters(builder_name):
    model = built("flatten", builder_name)
    for layer in builder.frozen_layers(model, "block5_pool"):
        layer.trainable = False
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 25_089


def test_a_narrow_network_keeps_the_shape_of_the_wide_one():
    found = table(vgg16.sequential(None, 64, width=0.25))
    assert found["block1_conv1"] == ((None, 64, 64, 16), 448)
    assert found["block5_pool"] == ((None, 2, 2, 128), 0)
    assert vgg16.sequential(None, 64, width=0.25).count_params() == 920_784
    assert vgg16.scaled(64, 0.001) == 1


@pytest.mark.slow
def test_the_first_ten_layers_end_with_block3_conv3():
    model = built("fc", "keras")
    ours = {"rgb_to_bgr", "preprocessing"}
    frozen = [layer.name for layer in builder.frozen_layers(model, "block3_conv3") if layer.name not in ours]
    article = keras.applications.VGG16(weights=None).layers[:10]
    assert frozen == [model.layers[0].name, *(layer.name for layer in article[1:])]
    assert len(frozen) == 10
