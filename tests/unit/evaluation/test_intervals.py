import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from vggflow.evaluation import answers, calibration, intervals
from vggflow.evaluation.metrics import measure

NAMES = ("cats", "dogs", "hens")


def test_a_replicate_that_draws_every_image_once_gives_the_plain_measures(make_predictions):
    predictions = make_predictions(NAMES, skill=1.0)
    # Equal scores must pass a threshold together.
    columns = [f"p:{name}" for name in NAMES]
    rounded = predictions[columns].round(1) + 0.01
    predictions[columns] = rounded.to_numpy() / rounded.sum(axis=1).to_numpy()[:, None]
    data = answers.read(predictions, NAMES)
    replicate = intervals._measures(data, np.ones((1, len(predictions))))
    measured = measure(predictions, NAMES, replicates=0)
    for name, value in replicate.items():
        expected = (
            [row[name] for row in measured["per_class"].values()] if value.ndim == 2 else measured[name]
        )
        np.testing.assert_allclose(value[0], expected, err_msg=name)


def test_a_replicate_is_the_measure_of_the_drawn_images(make_predictions):
    predictions = make_predictions(NAMES, images=60, skill=1.0)
    data = answers.read(predictions, NAMES)
    drawn = np.random.default_rng(5).integers(0, 60, 60)
    weights = np.bincount(drawn, minlength=60).astype(float)[None]
    replicate = intervals._measures(data, weights)
    measured = measure(predictions.iloc[drawn], NAMES, replicates=0)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "roc_area", "pr_area"):
        assert replicate[name][0] == pytest.approx(measured[name]), name
    assert replicate["calibration_error"][0] == pytest.approx(measured["calibration_error"])


def test_intervals_agree_with_scipy(make_predictions):
    predictions = make_predictions(("cats", "dogs"), skill=1.0)
    data = answers.read(predictions, ("cats", "dogs"))
    found = intervals.bootstrap(data, ("cats", "dogs"), 4000)
    right = data.right.astype(float)
    expected = stats.bootstrap((right,), np.mean, method="percentile", n_resamples=4000, rng=1)
    np.testing.assert_allclose(found["accuracy"], expected.confidence_interval, atol=0.006)
    area = stats.bootstrap(
        (data.truth, data.probabilities[:, 1]), sk.roc_auc_score, paired=True, vectorized=False,
        method="percentile", n_resamples=1000, rng=1,
    )  # fmt: skip
    np.testing.assert_allclose(found["roc_area"], area.confidence_interval, atol=0.01)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        first, second = generator.random((2, 400)) < np.array([[0.9], [0.85]])
        low, high = intervals.gain(first, second, 500)
        covered += low <= 0.05 <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_intervals_in_any_portions(make_predictions, monkeypatch):
    data = answers.read(make_predictions(NAMES), NAMES)
    whole = intervals.bootstrap(data, NAMES, 100)
    assert whole == intervals.bootstrap(data, NAMES, 100)
    monkeypatch.setattr(intervals, "WEIGHTS", 3 * 300)
    in_portions = intervals.bootstrap(data, NAMES, 100)
    for name in ("accuracy", "log_loss", "calibration_error", "roc_area"):
        assert in_portions[name] == pytest.approx(whole[name], abs=1e-12)


def test_no_images_have_no_interval():
    assert intervals.gain(np.array([], dtype=bool), np.array([], dtype=bool), 10) is None


def test_perfect_calibration_has_no_error_and_a_border_belongs_to_the_bin_below():
    confidence, right = np.full(10, 0.8), np.arange(10) < 8
    assert calibration.expected_error(confidence, right) == pytest.approx(0.0)
    assert calibration.bin_numbers(np.array([0.0, 1 / 15, 1.0])).tolist() == [0, 0, 14]
    bins = calibration.reliability(confidence, right)
    assert sum(row.images for row in bins) == 10
    assert [row.accuracy for row in bins if row.images] == [0.8]


def test_the_interval_of_a_share_is_the_one_that_drawing_gives():
    right = np.arange(400) < 330
    low, high = intervals.of_share(330 / 400, 400)
    drawn = intervals.gain(right, np.zeros(400, bool), 20_000)
    assert drawn is not None
    assert (low, high) == pytest.approx(drawn, abs=0.003)
    assert intervals.of_share(1.0, 7) == (1.0, 1.0)
