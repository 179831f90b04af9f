"""Recipes: complete settings, networks that can be built, and the set-ups that were published."""

from pathlib import Path

import pytest

import vggflow
from vggflow import settings
from vggflow.models import builder
from vggflow.models.summary import Summary, summarise

RECIPES = Path(vggflow.__file__).parent / "template" / "recipes"


def summary(name: str) -> Summary:
    recipe = settings.load(RECIPES / f"{name}.yaml")
    return summarise(builder.network(recipe.model, 2), recipe.train.phases)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_complete_and_freezes_layers_that_its_network_has(path):
    recipe = settings.load(path)
    written = set(path.read_text(encoding="utf-8").split("\n"))
    assert {"model:", "validate:", "train:", "evaluate:", "registry:", "promotion:"} <= written
    model = builder.network(recipe.model.model_copy(update={"width": 0.03125, "builder": "sequential"}), 2)
    assert len(summarise(model, recipe.train.phases).phases) == len(recipe.train.phases)


def test_frozen_base_learns_25089_parameters_on_augmented_pixels():
    recipe = settings.load(RECIPES / "frozen-base.yaml")
    assert summary("frozen-base").parameters == 14_739_777
    assert [phase.learning_parameters for phase in summary("frozen-base").phases] == [25_089]
    assert recipe.train.phases[0].epochs == 15
    assert recipe.train.batch_size == 16
    assert recipe.train.augments(recipe.train.phases[0])


def test_last_layer_learns_one_sigmoid_on_fc2():
    assert summary("last-layer").parameters == 134_264_641
    assert [phase.learning_parameters for phase in summary("last-layer").phases] == [4_097]


def test_from_scratch_learns_two_softmax_outputs_then_everything_behind_block3_conv3():
    head, top = summary("from-scratch").phases
    assert head.learning_parameters == 2 * 4_097
    assert top.frozen_parameters == 1_735_488
    assert top.learning_parameters == 134_264_641 + 4_097 - 1_735_488
