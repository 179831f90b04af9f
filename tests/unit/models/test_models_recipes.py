"""Recipes: complete settings, networks that can be built, and the set-ups that were published."""

import pytest
import yaml

from vggflow import settings
from vggflow.models import builder
from vggflow.models.network_summary import Summary, summarise
from vggflow.settings import Settings
from vggflow.workspace import recipe_text, recipes

pytestmark = pytest.mark.usefixtures("weights_of_zeros")
PUBLISHED = ("frozen-base", "last-layer", "two-phase", "from-scratch")


def load(name: str) -> Settings:
    return settings.parse(yaml.safe_load(recipe_text(name)), name)


def summary(name: str) -> Summary:
    return summarise(builder.network(load(name).model, 2), load(name).train.phases)


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_complete_and_freezes_layers_that_its_network_has(name):
    recipe = load(name)
    assert set(yaml.safe_load(recipe_text(name))) == {
        *("model", "validate", "train", "evaluate", "registry", "promotion")
    }
    model = builder.network(recipe.model.model_copy(update={"width": 0.03125, "builder": "sequential"}), 2)
    assert len(summarise(model, recipe.train.phases).phases) == len(recipe.train.phases)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_says_what_was_published_and_how_to_repeat_it(name):
    head = recipe_text(name).partition("model:\n")[0]
    text = " ".join(head.replace("#", "").split())
    assert "Published for " in text
    assert " % on the latter" in text
    assert "To repeat it: `vggflow data import FOLDER` with FOLDER/{train,valid}/{cats,dogs}/" in text
    assert "then `vggflow retrain`" in text
    assert "Not published" in text
    assert load(name).model.weights == "imagenet"
    assert load(name).model.image_size_px == 224


@pytest.mark.parametrize(
    ("name", "accuracies"),
    [
        ("frozen-base", ["92.45 %", "93.75 %"]),
        ("last-layer", ["96.24 %"]),
        ("two-phase", ["97.16 %", "97.76 %"]),
        ("from-scratch", ["98.05 %"]),
    ],
)
def test_the_published_accuracies_stand_in_the_recipe(name, accuracies):
    assert [value for value in accuracies if value not in recipe_text(name)] == []


def test_frozen_base_learns_25089_parameters_on_sheared_zoomed_and_mirrored_pixels():
    recipe = load("frozen-base")
    assert summary("frozen-base").parameters == 14_739_777
    assert [phase.learning_parameters for phase in summary("frozen-base").phases] == [25_089]
    (phase,) = recipe.train.phases
    assert (phase.optimizer, phase.epochs, phase.early_stopping) == ("adam", 15, None)
    assert recipe.train.batch_size == 16
    assert recipe.train.augments(phase)
    assert recipe.train.augmentation.model_dump(exclude_defaults=True) == {
        "horizontal_flip": True,
        "shear": 0.2,
        "zoom": 0.2,
    }
    assert (recipe.model.head, recipe.model.two_class_output) == ("flatten", "sigmoid")
    assert recipe.model.preprocessing == "rescale"


def test_last_layer_learns_one_sigmoid_on_fc2_for_one_epoch():
    assert summary("last-layer").parameters == 134_264_641
    assert [phase.learning_parameters for phase in summary("last-layer").phases] == [4_097]
    assert [phase.epochs for phase in load("last-layer").train.phases] == [1]


def test_two_phase_learns_one_sigmoid_then_everything_behind_block3_conv3():
    head, top = summary("two-phase").phases
    assert head.learning_parameters == 4_097
    assert top.frozen_parameters == 1_735_488
    assert top.learning_parameters == 134_264_641 - 1_735_488


def test_from_scratch_learns_two_softmax_outputs_then_everything_behind_block3_conv3():
    head, top = summary("from-scratch").phases
    assert head.learning_parameters == 2 * 4_097
    assert top.frozen_parameters == 1_735_488
    assert top.learning_parameters == 134_264_641 + 4_097 - 1_735_488
    model = load("from-scratch").model
    assert (model.builder, model.padding, model.two_class_output) == ("sequential", "explicit", "softmax")


@pytest.mark.parametrize("name", ["two-phase", "from-scratch"])
def test_the_second_phase_is_at_a_lower_rate_and_ends_by_itself_within_20_epochs(name):
    head, top = load(name).train.phases
    assert (head.freeze_through, head.epochs) == ("fc2", 3)
    assert (top.freeze_through, top.epochs) == ("block3_conv3", 20)
    assert top.learning_rate < head.learning_rate
    assert top.early_stopping is not None
