"""ImageNet's own weights, where their file is at hand: both builders read the same network from it."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from vggflow.models import builder
from vggflow.settings import ModelSettings

FILE = os.environ.get("VGGFLOW_IMAGENET_WEIGHTS")

pytestmark = pytest.mark.skipif(not FILE, reason="VGGFLOW_IMAGENET_WEIGHTS is not set")


def test_both_builders_read_the_published_convolutions_and_answer_alike():
    path = Path(str(FILE))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    answers = []
    for kind in ("keras", "sequential"):
        settings = ModelSettings(weights=path.name, builder=kind, image_size_px=64, head="pooling")
        model = builder.build(settings, ("cats", "dogs"), path.parent)
        kernel, bias = model.get_layer("block1_conv1").get_weights()
        # As others publish them of Keras' file.
        assert (kernel[0, 0, 0, 0], bias[0]) == (np.float32(0.42947057), np.float32(0.73429835))
        deep = model.get_layer("block5_conv1").get_weights()[0]
        assert deep[1, 0, 63, 269] == pytest.approx(-0.011236359, rel=1e-7)
        cut = keras.Model(model.inputs[0], model.get_layer("block5_pool").output)
        answers.append(keras.ops.convert_to_numpy(cut(pixels)))
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)
    # Rows that no ReLU kept alive would agree in whatever way they were made.
    assert np.count_nonzero(answers[0]) > 100
