"""What the network sees, against NumPy."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from vggflow.evaluation import explain
from vggflow.models import builder, vgg16_in_numpy
from vggflow.models.files import ModelInfo
from vggflow.report import explain_plot
from vggflow.settings import ModelSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
INFO = ModelInfo(("cats", "dogs"), 32, "crop", "imagenet")


def tiny(**changes) -> keras.Model:
    common = {"image_size_px": 32, "weights": "none", "width": 0.03125, "builder": "sequential", "head": "fc"}
    return builder.build(ModelSettings(**{**common, **changes}), ["cats", "dogs"])


def score_behind_block3(features: np.ndarray, weights: vgg16_in_numpy.Weights, class_index: int) -> float:
    """The logit from the features of block3_conv3, in NumPy."""
    values = vgg16_in_numpy.max_pooling(features)
    for block in (4, 5):
        for number in (1, 2, 3):
            kernel, bias = weights[f"block{block}_conv{number}"]
            values = vgg16_in_numpy.relu(
                vgg16_in_numpy.convolution(vgg16_in_numpy.zero_padding(values), kernel, bias)
            )
        values = vgg16_in_numpy.max_pooling(values)
    values = vgg16_in_numpy.flatten(values)
    for name in ("fc1", "fc2"):
        values = vgg16_in_numpy.relu(vgg16_in_numpy.dense(values, *weights[name]))
    logits = vgg16_in_numpy.dense(values, *weights["predictions"])[0]
    return float(logits[class_index] if len(logits) > 1 else logits[0] * (1 if class_index else -1))


def expected_heat(model: keras.Model, class_index: int) -> np.ndarray:
    """Grad-CAM with differences instead of derivatives."""
    weights = {layer.name: tuple(layer.get_weights()) for layer in model.layers if layer.weights}
    features = dict(vgg16_in_numpy.layers(vgg16_in_numpy.preprocess(PIXELS[None]), weights))["block3_conv3"]
    gradient = np.zeros_like(features)
    for index in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[index] = 1e-5
        up = score_behind_block3(features + step, weights, class_index)
        down = score_behind_block3(features - step, weights, class_index)
        gradient[index] = (up - down) / 2e-5
    heat = np.maximum((gradient.mean(axis=(1, 2)) * features).sum(axis=-1)[0], 0)
    return heat / heat.max() if heat.max() > 0 else heat


@pytest.mark.parametrize("two_class_output", ["sigmoid", "softmax"])
def test_grad_cam_equals_a_computation_without_derivatives(two_class_output):
    model = tiny(two_class_output=two_class_output)
    # Windows of zeros only would leave open where the gradient of max pooling goes.
    model.get_layer("block3_conv3").bias.assign(np.full(8, 5.0, np.float32))
    heats = [explain.grad_cam(model, PIXELS, index) for index in (0, 1)]
    for index, heat in enumerate(heats):
        assert heat.shape == (8, 8)
        np.testing.assert_allclose(heat, expected_heat(model, index), atol=2e-3)
    assert max(heat.max() for heat in heats) == 1.0
    assert not np.array_equal(*heats)


@pytest.mark.parametrize(
    ("size_px", "layer"), [(32, "block3_conv3"), (64, "block4_conv3"), (224, "block5_conv3")]
)
def test_the_heat_map_has_places_enough_at_every_image_size(size_px, layer):
    settings = ModelSettings(image_size_px=size_px, weights="none", width=0.03125, builder="sequential")
    assert explain.heat_layer(builder.network(settings, 2)) == layer


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="expected a class from 0 to 1, got 2"):
        explain.grad_cam(tiny(), PIXELS, 2)


def test_the_probabilities_are_those_of_a_prediction_of_the_same_pixels():
    model = tiny()
    image = Image.fromarray(PIXELS)
    found = explain.explain(model, INFO, image)
    second = float(model.predict(PIXELS[None], verbose=0)[0, 0])
    np.testing.assert_allclose(found.probabilities, [1 - second, second], rtol=1e-5)
    np.testing.assert_array_equal(found.heat, explain.grad_cam(model, PIXELS, found.predicted))


def test_each_block_shows_the_maps_that_vary_most():
    model = tiny()
    found = explain.explain(model, INFO, Image.fromarray(PIXELS))
    layer = keras.Model(model.inputs[0], model.get_layer("block4_conv3").output)
    maps = np.asarray(layer.predict(PIXELS[None], verbose=0))[0]
    block = found.blocks["block4"]
    assert list(found.blocks) == ["block1", "block2", "block3", "block4", "block5"]
    assert block.map_count == 16
    assert block.strongest.shape == (8, 4, 4)
    spread = np.sort(maps.std(axis=(0, 1)))[::-1]
    np.testing.assert_allclose(block.strongest.std(axis=(1, 2)), spread[:8], rtol=1e-4, atol=1e-6)
    assert found.blocks["block1"].strongest.shape == (2, 32, 32)


def test_the_picture_shows_the_image_as_the_network_sees_it():
    wide = Image.new("RGB", (100, 50), "red")
    wide.paste((0, 0, 255), (0, 0, 20, 50))
    found = explain.explain(tiny(), INFO, wide)
    assert found.picture.shape == (448, 448, 3)
    assert (found.picture == (255, 0, 0)).all(), "crop leaves the blue fifth at the left out"


def test_the_figure_is_drawn_alike_twice_and_glows_only_where_there_is_heat():
    found = explain.explain(tiny(), INFO, Image.fromarray(PIXELS))
    contents = []
    for _ in range(2):
        file = io.BytesIO()
        explain_plot.draw(found).savefig(file, dpi=50, format="png")
        contents.append(file.getvalue())
    assert contents[0] == contents[1]
    figure = np.asarray(Image.open(io.BytesIO(contents[0])).convert("RGB")).astype(int)
    assert figure.shape == (370, 650, 3)
    assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 1000
    heat = np.zeros((8, 8))
    heat[6, 1] = 1.0
    glow = explain_plot.glow(heat, 80)
    assert glow[65, 15, 3] > 0.7
    assert glow[:40, :, 3].max() == 0.0


def explanation(class_name: str, heat: np.ndarray) -> explain.Explanation:
    block = explain.Block(8, np.ones((8, 4, 4)))
    return explain.Explanation(
        picture=np.full((448, 448, 3), 128, np.uint8),
        class_names=("other", class_name),
        probabilities=np.array([0.25, 0.75]),
        heat=heat,
        blocks={"block1": block},
    )


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_picture_without_evidence_says_so():
    assert "evidence for dogs (Grad-CAM)" in titles(explain_plot.draw(explanation("dogs", np.eye(8))))
    assert "no evidence for dogs (Grad-CAM)" in titles(
        explain_plot.draw(explanation("dogs", np.zeros((8, 8))))
    )


def test_a_class_name_is_shown_letter_by_letter_and_no_formula():
    figure = explain_plot.draw(explanation(r"$\frac{1$ or $x_1$", np.eye(8)))
    figure.savefig(io.BytesIO(), dpi=50, format="png")
    shown = [figure._suptitle, *(axes._left_title for axes in figure.axes[:2])]
    assert [text.get_parse_math() for text in (shown[0], shown[2])] == [False, False]
    assert r"$\frac{1$ or $x_1$ 75.0%" in shown[0].get_text()


def test_the_maps_of_a_block_share_one_scale():
    strong, dead = np.zeros((8, 8)), np.zeros((8, 8))
    strong[2:5, 2:5], dead[6, 6] = 10.0, 0.01
    block = explain.Block(2, np.stack([strong, dead]))
    made = explanation("dogs", np.eye(8))
    figure = explain_plot.draw(
        explain.Explanation(made.picture, made.class_names, made.probabilities, made.heat, {"block1": block})
    )
    limits = [axes.images[0].get_clim() for axes in figure.axes[2:]]
    assert limits == [(0.0, 10.0), (0.0, 10.0)]
    assert explain_plot.white(np.zeros((8, 4, 4))) == 1.0


def test_a_single_bright_place_at_the_border_does_not_darken_the_block():
    maps = np.random.default_rng(0).uniform(0.0, 1.0, (8, 32, 32))
    maps[0, 0, 0] = 1000.0
    assert explain_plot.white(maps) < 1.1
