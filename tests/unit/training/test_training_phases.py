"""When an epoch is better than the best one so far."""

import math

import pytest

from vggflow.settings import Phase
from vggflow.training.phases import improves

NAMED = {"name": "top", "learning_rate": 0.1, "epochs": 3}


@pytest.mark.parametrize(
    ("monitor", "value", "best", "better"),
    [
        ("val_loss", 0.4, 0.5, True),
        ("val_loss", 0.5, 0.5, False),
        ("val_loss", 0.6, 0.5, False),
        ("val_loss", 0.4, None, True),
        ("val_loss", math.nan, None, False),
        ("val_loss", math.nan, 0.5, False),
        ("val_accuracy", 0.6, 0.5, True),
        ("val_accuracy", 0.5, 0.5, False),
        ("val_accuracy", 0.4, 0.5, False),
    ],
)
def test_an_epoch_improves_only_by_more_than_nothing(monitor, value, best, better) -> None:
    phase = Phase(**NAMED, early_stopping={"monitor": monitor})
    assert improves(phase, {monitor: value}, best) is better


@pytest.mark.parametrize(("value", "better"), [(0.625, False), (0.6875, True)])
def test_by_min_delta_alone_nothing_improves(value, better) -> None:
    phase = Phase(**NAMED, early_stopping={"monitor": "val_accuracy", "min_delta": 0.125})
    assert improves(phase, {"val_accuracy": value}, 0.5) is better
