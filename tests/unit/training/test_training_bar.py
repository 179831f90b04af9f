"""The bar over a whole training."""

import pytest

from vggflow.settings import Phase
from vggflow.training.bar import Bar

PHASES = [Phase(name="head", epochs=3), Phase(name="top", epochs=5)]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def bar(seen):
    return Bar(lambda done, total, note: seen.append((done, total, note)), PHASES, batch_size=32)


def row(phase, epoch, step=1):
    return {"phase": phase, "epoch": epoch, "step": step, "loss": 0.5, "accuracy": 0.75}


def test_steps_count_over_all_epochs_of_all_phases(bar, seen):
    bar.step(1, 10, row("head", 1))
    bar.epoch(row("head", 1))
    bar.step(4, 10, row("head", 2))
    assert [counts for *counts, _ in seen] == [[1, 80], [14, 80]]


def test_a_step_counts_the_epochs_before_it_also_while_they_are_not_told_of_as_done(bar, seen):
    bar.step(10, 10, row("head", 1, step=10))
    bar.step(1, 10, row("head", 2, step=11))
    bar.epoch(row("head", 1))
    bar.step(2, 10, row("head", 2, step=12))
    assert [counts for *counts, _ in seen] == [[10, 80], [11, 80], [12, 80]]


def test_a_phase_that_ended_early_makes_the_training_shorter(bar, seen):
    bar.epoch(row("head", 1))
    bar.step(2, 10, row("top", 2))
    assert seen[-1][:2] == (12, 60)


def test_the_last_step_fills_the_bar(bar, seen):
    for number in range(1, 4):
        bar.epoch(row("head", number))
    for number in range(4, 8):
        bar.epoch(row("top", number))
    bar.step(10, 10, row("top", 8))
    assert seen[-1][:2] == (80, 80)


def test_phase_loss_accuracy_and_speed_stand_beside_it(bar, seen):
    bar.step(1, 10, row("head", 1))
    bar.step(1, 10, row("head", 2, step=11))
    assert seen[0][2] == "head, epoch 1: loss 0.5000, accuracy 0.750"
    assert seen[1][2].endswith(" images/s")


def test_the_feature_pass_has_a_speed_of_its_own(bar, seen, monkeypatch):
    now = iter([100.0, 102.0, 200.0, 201.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    bar.features(16, 100)
    bar.features(48, 100)
    bar.step(1, 10, row("head", 1))
    bar.step(2, 10, row("head", 1, step=2))
    assert seen[1] == (48, 100, "images through the frozen layers, 16 images/s")
    assert seen[3][2].endswith(", 32 images/s")
