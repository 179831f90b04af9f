"""What a search may vary."""

import pytest

from vggflow.errors import SettingsError
from vggflow.search import space as spaces
from vggflow.settings import Range, Settings, parse

PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01, "epochs": 2},
    {"name": "model", "freeze_through": "block3_conv3", "learning_rate": 0.001, "epochs": 2},
]


def settings(space=None, model=None, phases=PHASES) -> Settings:
    network = {
        "image_size_px": 64,
        "width": 0.25,
        "builder": "sequential",
        "weights": "none",
        **(model or {}),
    }
    content = {
        "model": network,
        "validate": {},
        "train": {"phases": phases},
        "evaluate": {},
        "registry": {"experiment": "none"},
        "search": {"space": space},
    }
    return parse(content)


def test_settings_of_the_first_phase_are_told_from_those_that_need_the_network():
    found = spaces.space(
        settings(
            {
                "model.dropout": [0.0, 0.5],
                "train.phases.head.epochs": {"low": 1, "high": 4},
                "train.phases.model.freeze_through": ["block4_pool", "none"],
            }
        ),
        images=100,
    )
    assert set(found.first) == {"model.dropout", "train.phases.head.epochs"}
    assert set(found.later) == {"train.phases.model.freeze_through"}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model.width": [0.5]}, "`model.width` can't be varied; expected some of: model.head"),
        ({"train.phases.tail.epochs": [1]}, "`train.phases.tail.epochs` can't be varied"),
        ({"train.phases.head.freeze_through": ["none"]}, "freeze_through` can't be varied"),
        ({"model.head": ["dense"]}, "model.head dense: "),
        ({"model.dropout": {"low": 0.2, "high": 1.5}}, "model.dropout 1.5: "),
        ({"model.head": {"low": 1, "high": 2}}, "`model.head` has no range: list its values"),
        ({"train.batch_size": {"low": 1.5, "high": 8}}, "whole numbers, got 1.5 to 8"),
        ({"train.batch_size": [0]}, "train.batch_size 0: "),
        ({"train.batch_size": ["many"]}, "train.batch_size many: "),
    ],
)
def test_what_can_not_be_varied_is_refused_in_one_line(space, said):
    with pytest.raises(SettingsError) as refused:
        spaces.space(settings(space), images=100)
    assert str(refused.value).startswith("search.space: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_are_put_in_their_places_even_where_a_phase_is_called_like_a_section():
    changed = spaces.with_values(
        settings(), {"train.phases.model.epochs": 7, "model.dropout": 0.25, "train.batch_size": 16}
    )
    assert [phase.epochs for phase in changed.train.phases] == [2, 7]
    assert (changed.model.dropout, changed.train.batch_size) == (0.25, 16)
    assert settings().model.dropout == 0.0


def test_a_rate_is_written_as_anybody_would():
    changed = spaces.with_values(settings(), {"train.phases.head.learning_rate": 0.00123456789})
    assert changed.train.phases[0].learning_rate == 0.00123


def test_the_space_that_nobody_wrote_down_holds_only_what_fits():
    every_phase = spaces.space(settings(), images=1000)
    assert every_phase.first["model.head"] == ("pooling", "flatten")
    assert every_phase.later["train.phases.model.freeze_through"] == (
        "block4_pool",
        "block3_pool",
        "block3_conv3",
    )
    assert isinstance(every_phase.first["train.phases.head.learning_rate"], Range)
    alone = spaces.space(settings(phases=PHASES[:1]), images=1000)
    assert not alone.later
    # 7×7×512 features of a million images are no burden for nobody.
    large = settings(model={"image_size_px": 224, "width": 1.0})
    assert "model.head" not in spaces.space(large, images=1_000_000).first
    # fc2 is no layer of another head.
    of_fc = settings(model={"head": "fc"}, phases=[{"name": "head", "freeze_through": "fc2"}])
    assert "model.head" not in spaces.space(of_fc, images=100).first
