"""The layer table against published figures."""

import io
import json

import pytest
from rich.console import Console

from vggflow.errors import SettingsError
from vggflow.models import builder, vgg16
from vggflow.models.network_summary import Summary, render, summarise
from vggflow.settings import ModelSettings, Phase

PHASES = [
    Phase(name="head", freeze_through="block5_pool"),
    Phase(name="top", freeze_through="block3_conv3"),
    Phase(name="all"),
]


@pytest.fixture(scope="module")
def flatten() -> Summary:
    return summarise(builder.network(ModelSettings(head="flatten", builder="sequential"), 2), PHASES)


def test_the_multiply_adds_of_each_block_are_the_published_ones():
    summary = summarise(vgg16.sequential(None))
    blocks = {f"block{number}": 0 for number in range(1, 6)}
    for layer in summary.layers:
        if layer.multiply_adds:
            blocks[layer.name.partition("_")[0]] += layer.multiply_adds
    assert {name: round(value / 1e9, 2) for name, value in blocks.items()} == {
        "block1": 1.94,
        "block2": 2.77,
        "block3": 4.62,
        "block4": 4.62,
        "block5": 1.39,
    }
    assert round(summary.multiply_adds / 1e9, 2) == 15.35


def test_the_totals_count_parameters_and_outputs_of_one_image(flatten):
    assert flatten.parameters == 14_739_777
    assert flatten.parameter_bytes == 4 * 14_739_777
    assert flatten.layers[0].output_shape == (224, 224, 3)
    outputs_of_blocks = (147_456, 73_728, 53_248, 26_624, 6_656)
    assert summarise(vgg16.sequential(None, 32)).activation_bytes == 4 * sum(outputs_of_blocks)


def test_a_phase_says_what_learns_and_what_an_image_costs_behind_the_frozen_layers(flatten):
    head, top, everything = flatten.phases
    assert (head.learning_parameters, head.frozen_parameters) == (25_089, 14_714_688)
    assert head.multiply_adds == 25_088
    assert top.learning_parameters == 14_739_777 - 1_735_488
    assert everything.learning_parameters == 14_739_777
    assert everything.multiply_adds == flatten.multiply_adds


def test_each_layer_knows_the_phases_in_which_it_learns(flatten):
    learns = {layer.name: layer.learns_in for layer in flatten.layers}
    assert learns["predictions"] == ("head", "top", "all")
    assert learns["block4_conv1"] == ("top", "all")
    assert learns["block3_conv3"] == ("all",)
    assert learns["block4_pool"] == ()


def test_a_layer_that_learns_in_no_phase_is_frozen():
    model = builder.network(ModelSettings(image_size_px=32, head="flatten"), 2)
    console = Console(width=80, file=io.StringIO())
    console.print(render(summarise(model, PHASES[:2])))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert next(row for row in rows if row[:1] == ["block3_conv3"])[-1] == "frozen"


def test_an_unknown_layer_in_a_phase_is_refused():
    model = builder.network(ModelSettings(image_size_px=32, head="flatten"), 2)
    with pytest.raises(SettingsError, match="block6_pool"):
        summarise(model, [Phase(name="odd", freeze_through="block6_pool")])


def test_the_summary_is_json(flatten):
    content = json.loads(json.dumps(flatten.to_dict()))
    assert content["layers"][3]["name"] == "block1_conv1"
    assert content["phases"][0]["name"] == "head"


@pytest.mark.parametrize("padding", ["same", "explicit"])
@pytest.mark.parametrize("head", ["flatten", "fc", "pooling"])
def test_the_table_shows_every_layer_its_phases_and_the_totals_in_80_columns(head, padding):
    settings = ModelSettings(head=head, width=0.5, builder="sequential", weights="none", padding=padding)
    summary = summarise(builder.network(settings, 2), PHASES)
    console = Console(width=80, file=io.StringIO())
    console.print(render(summary))
    text = console.file.getvalue()
    row = next(line for line in text.splitlines() if line.startswith("block4_conv1 "))
    assert " ".join(row.split()) == "block4_conv1 Conv2D 28×28×256 295,168 231.2 2 3"
    row = next(line for line in text.splitlines() if line.startswith("block3_conv3 "))
    assert row.split()[-1] == "3"
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[:3] for line in text.splitlines()[-3:]] == [
        ["1", "head", "block5_pool"],
        ["2", "top", "block3_conv3"],
        ["3", "all", "none"],
    ]
    assert f"{summary.parameters:,} parameters (" in text
    assert f"{summary.multiply_adds / 1e9:.2f} G multiply-adds" in text
    assert all(layer.name in text for layer in summary.layers)
