"""The linear probe, the temperature and the range test."""

import numpy as np
import pytest
from scipy.special import softmax
from tiny_training import HEAD, TOP, Listener

from vggflow.errors import SettingsError
from vggflow.training.fit_temperature import fit_temperature
from vggflow.training.fitting import fit
from vggflow.training.probe import probe_accuracy
from vggflow.training.rate_search import draw, find_learning_rate, suggest


class Held:
    """Rows in memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self._rows[indices]


def clouds(count: int, distance: float, seed: int, classes: int = 2, width: int = 5):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(0, distance, (classes, width))
    return Held((centres[labels] + generator.normal(0, 1, (count, width))).astype(np.float32)), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_separates_what_a_line_separates(classes):
    train, train_labels = clouds(700, 4.0, 1, classes)
    valid, valid_labels = clouds(300, 4.0, 2, classes)
    assert probe_accuracy(train, train_labels, valid, valid_labels) > 0.97


def test_the_probe_finds_nothing_where_there_is_nothing():
    train, train_labels = clouds(700, 0.0, 1)
    valid, valid_labels = clouds(1000, 0.0, 2)
    assert probe_accuracy(train, train_labels, valid, valid_labels) == pytest.approx(0.5, abs=0.06)


def test_a_rare_class_is_probed_as_fairly_as_the_other():
    train, labels = clouds(2000, 0.5, 1)
    keep = (labels == 0) | (np.arange(2000) % 20 == 0)
    valid, valid_labels = clouds(1000, 0.5, 2)
    for label in (0, 1):
        chosen = valid_labels == label
        accuracy = probe_accuracy(
            Held(train._rows[keep]), labels[keep], Held(valid._rows[chosen]), valid_labels[chosen]
        )
        assert accuracy > 0.6


def test_many_features_of_few_images_are_not_learnt_by_heart():
    """A ridge of a hundredth, whatever the data, is right on 74 % of these; one of ten on 94 %."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 2200)
    rows = generator.normal(0, 1, (2200, 180)).astype(np.float32)
    rows[:, :20] += 0.8 * (labels[:, None] - 0.5)
    train, valid = Held(rows[:200]), Held(rows[200:])
    assert probe_accuracy(train, labels[:200], valid, labels[200:]) > 0.9


def test_a_feature_that_never_varies_does_not_stop_the_probe():
    train, train_labels = clouds(200, 4.0, 1)
    constant = Held(np.concatenate([train._rows, np.ones((200, 3), np.float32)], axis=1))
    assert probe_accuracy(constant, train_labels, constant, train_labels) > 0.97
    nothing = Held(np.zeros((200, 3), np.float32))
    assert 0 <= probe_accuracy(nothing, train_labels, nothing, train_labels) <= 1


def test_feature_maps_are_probed_by_their_averages():
    train, labels = clouds(300, 4.0, 1)
    maps = Held(np.broadcast_to(train._rows[:, None, None, :], (300, 2, 2, 5)).copy())
    assert probe_accuracy(maps, labels, maps, labels) == probe_accuracy(train, labels, train, labels)


def drawn(temperature: float, classes: int, count: int = 20_000):
    """Logits whose probabilities are right once they are divided by the temperature."""
    generator = np.random.default_rng(5)
    logits = generator.normal(0, 2, (count, classes))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(axis=1) > generator.uniform(size=(count, 1))).argmax(axis=1)
    return (logits * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_that_spoilt_the_probabilities_is_found(temperature, classes):
    logits, labels = drawn(temperature, classes)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_one_logit_is_the_difference_of_two():
    logits, labels = drawn(2.0, 2)
    assert fit_temperature(logits[:, 1:] - logits[:, :1], labels) == pytest.approx(
        fit_temperature(logits, labels), 1e-3
    )


def test_where_all_is_right_the_temperature_stays_finite():
    labels = np.array([0, 1] * 20)
    logits = np.where(labels, 3.0, -3.0)[:, None].astype(np.float32)
    assert 0.3 < fit_temperature(logits, labels) < 1.0


@pytest.mark.parametrize(("classes", "images"), [(2, 40), (10, 50), (100, 500), (1000, 1000)])
def test_calibrated_probabilities_stay_as_they_are_where_classes_are_many_or_images_few(classes, images):
    logits, labels = drawn(1.0, classes, images)
    assert fit_temperature(logits, labels) == 1.0


@pytest.mark.parametrize(("classes", "images"), [(10, 500), (100, 500), (1000, 1000)])
def test_overconfidence_is_found_with_many_classes_too(classes, images):
    logits, labels = drawn(3.0, classes, images)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.25)


def test_one_image_says_nothing_about_the_temperature():
    assert fit_temperature(np.array([[5.0, 0.0]], np.float32), np.array([0])) == 1.0


@pytest.mark.parametrize(("factor", "bound"), [(0.01, 0.1), (100.0, 10.0)])
def test_a_temperature_beyond_its_bounds_is_the_bound_itself(factor, bound):
    logits, labels = drawn(factor, 5, 2000)
    assert fit_temperature(logits, labels) == bound


def test_every_run_reports_the_probe_beside_its_training(make_job):
    listener = Listener()
    fit(make_job({"phases": [HEAD]}), listener)
    assert 0.0 <= listener.ends["linear_probe_val_accuracy"] <= 1.0
    assert listener.ends["linear_probe_seconds"] > 0


def test_the_suggested_rate_is_a_tenth_of_the_best(make_job):
    rates = np.logspace(-7, 0, 71)
    losses = 1.0 - np.exp(-((np.log10(rates) + 2) ** 2))
    assert suggest(rates, losses) == pytest.approx(1e-3)


def test_the_range_test_gives_a_curve_and_leaves_no_checkpoint(make_job):
    job = make_job()
    curve = find_learning_rate(job)
    assert curve.phase == "head"
    assert curve.rates[0] == pytest.approx(1e-7)
    assert len(curve.rates) == len(curve.losses) > 20
    assert 1e-8 < curve.suggestion <= 0.1
    assert not (job.state_folder / "checkpoints").exists()
    figure = draw(curve)
    assert figure.axes[0].get_xscale() == "log"


def test_the_range_test_takes_a_phase_by_name(make_job):
    assert find_learning_rate(make_job(), "top").phase == "top"
    with pytest.raises(SettingsError, match=r"no phase tpo .* head, top"):
        find_learning_rate(make_job({"phases": [HEAD, TOP]}), "tpo")
