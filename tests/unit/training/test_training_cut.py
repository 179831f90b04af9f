"""Cutting the network in two, and what each phase means for it."""

import keras
import numpy as np
import pytest
from tiny_training import settings

from vggflow.errors import SettingsError
from vggflow.models import builder
from vggflow.models import cut as prefix
from vggflow.settings import Phase
from vggflow.training import phases


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return builder.build(
        settings(model={"head": "pooling", "image_size_px": 64}).model, ("a", "b"), None, seed=1
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def outputs(network: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(network.predict_on_batch(inputs))


@pytest.mark.parametrize("cut", ["block1_conv1", "block3_pool", "block5_pool", "global_pool"])
def test_prefix_and_suffix_together_are_the_network(model, images, cut):
    features = outputs(prefix.prefix(model, [cut]), images)
    assert features.shape[1:] == prefix.feature_shape(model, cut)
    np.testing.assert_allclose(
        outputs(prefix.suffix(model, cut), features), outputs(model, images), atol=1e-6
    )
    np.testing.assert_allclose(outputs(prefix.uncut(model, cut), images), outputs(model, images), atol=1e-6)


def test_the_halves_share_the_weights_of_the_network(model):
    kernel = model.get_layer("block4_conv1").kernel
    assert any(variable is kernel for variable in prefix.suffix(model, "block3_pool").trainable_variables)
    assert any(variable is kernel for variable in prefix.prefix(model, ["block4_pool"]).variables)


@pytest.mark.parametrize(
    ("freeze_through", "cut"),
    [
        ("none", None),
        ("block3_conv3", "block3_pool"),
        ("block3_conv2", "block3_conv2"),
        ("block3_pool", "block3_pool"),
        ("block5_pool", "global_pool"),
    ],
)
def test_the_cut_is_where_features_are_smallest(model, freeze_through, cut):
    (plan,) = phases.plan(model, [Phase(name="p", freeze_through=freeze_through)])
    assert plan.cut == cut


def test_flattening_gains_nothing_so_the_cut_stays_before_it():
    flat = builder.build(settings().model, ("a", "b"), None, seed=1)
    (plan,) = phases.plan(flat, [Phase(name="p", freeze_through="block5_pool")])
    assert plan.cut == "block5_pool"


def test_dropout_stays_behind_the_cut():
    model = builder.build(settings(model={"head": "pooling", "dropout": 0.5}).model, ("a", "b"), None, seed=1)
    (plan,) = phases.plan(model, [Phase(name="p", freeze_through="global_pool")])
    assert plan.cut == "global_pool"
    assert plan.learning == ("dropout", "predictions")


def test_only_layers_after_the_frozen_ones_learn(model):
    (plan,) = phases.plan(model, [Phase(name="p", freeze_through="block4_conv3")])
    assert plan.learning == ("block5_conv1", "block5_conv2", "block5_conv3", "predictions")
    phases.freeze(model, plan.learning)
    assert {variable.path.split("/")[0] for variable in model.trainable_variables} == set(plan.learning)


def test_an_unknown_layer_is_refused_with_those_that_exist(model):
    with pytest.raises(SettingsError, match=r"block9.*block5_pool"):
        phases.plan(model, [Phase(name="p", freeze_through="block9")])


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_the_reported_rate_is_the_optimizers(kind):
    phase = Phase(name="p", learning_rate=0.01, schedule=kind, epochs=3)
    optimizer = phases.optimizer(phase, phases.schedule(phase, 4))
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    for step in range(12):
        assert float(optimizer.learning_rate) == pytest.approx(phases.learning_rate(phase, step, 4), rel=1e-5)
        optimizer.apply_gradients([(keras.ops.ones(1), variable)])
    assert phases.learning_rate(phase, 12, 4) == pytest.approx(0.01 if kind == "constant" else 0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [("val_loss", [0.9, 0.5, 0.5, 0.7], 1), ("val_accuracy", [0.9, 0.95, 0.95, 0.7], 1)],
)
def test_the_first_of_equally_good_epochs_is_the_best(monitor, values, best):
    phase = Phase.model_validate({"name": "p", "early_stopping": {"monitor": monitor}})
    found, best_value = [], None
    for value in values:
        found.append(phases.improves(phase, {monitor: value}, best_value))
        best_value = value if found[-1] else best_value
    assert [place for place, better in enumerate(found) if better][-1] == best


def test_less_than_min_delta_is_no_improvement():
    phase = Phase.model_validate({"name": "p", "early_stopping": {"min_delta": 0.1}})
    assert not phases.improves(phase, {"val_loss": 0.45}, 0.5)
    assert phases.improves(phase, {"val_loss": 0.35}, 0.5)
