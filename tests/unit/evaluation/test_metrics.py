import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from vggflow.errors import DataError
from vggflow.evaluation.metrics import measure

NAMES = ("cats", "dogs", "hens")


def table(rows: list[tuple[str, float]]) -> pd.DataFrame:
    """Cats and dogs: the truth and the probability of dogs."""
    truth, dogs = zip(*rows, strict=True)
    return pd.DataFrame(
        {"path": "p", "sha256": "s", "truth": truth, "p:cats": 1 - np.array(dogs), "p:dogs": dogs}
    )


def test_measures_of_a_table_small_enough_to_count_by_hand():
    rows = [("cats", 0.1), ("cats", 0.2), ("cats", 0.9), ("dogs", 0.8), ("dogs", 0.4)]
    measured = measure(table(rows), ("cats", "dogs"), replicates=0)
    assert measured["images"] == 5
    assert measured["accuracy"] == pytest.approx(3 / 5)
    assert measured["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert measured["confusion_matrix"] == [[2, 1], [1, 1]]
    cats = measured["per_class"]["cats"]
    assert cats["precision"] == cats["recall"] == cats["f1"] == pytest.approx(2 / 3)
    assert cats["support"] == 3 and measured["per_class"]["dogs"]["support"] == 2
    assert measured["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.1, 0.8, 0.4]).mean())
    assert measured["brier"] == pytest.approx(np.square([0.1, 0.2, 0.9, 0.2, 0.6]).mean())
    # Of the six pairs of a cat and a dog, the dog has the higher probability in four.
    assert measured["per_class"]["dogs"]["roc_area"] == pytest.approx(4 / 6)
    # Each answer is in a bin of its own, but for the two of confidence 0.8 and the two of 0.9.
    gaps = [abs(0.9 + 0.9 - 1), abs(0.8 + 0.8 - 2), abs(0.6 - 0)]
    assert measured["calibration_error"] == pytest.approx(sum(gaps) / 5)


def test_measures_agree_with_scikit_learn(make_predictions):
    predictions = make_predictions(NAMES, skill=1.0)
    measured = measure(predictions, NAMES, replicates=0)
    truth = predictions["truth"]
    given = np.array(NAMES)[predictions[[f"p:{name}" for name in NAMES]].to_numpy().argmax(axis=1)]
    probabilities = predictions[[f"p:{name}" for name in NAMES]].to_numpy()
    assert 0.4 < measured["accuracy"] < 0.9
    assert measured["accuracy"] == pytest.approx(sk.accuracy_score(truth, given))
    assert measured["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, given))
    assert measured["macro_f1"] == pytest.approx(sk.f1_score(truth, given, average="macro"))
    assert measured["brier"] == pytest.approx(
        sk.brier_score_loss(truth, probabilities, labels=list(NAMES), scale_by_half=True)
    )
    assert measured["roc_area"] == pytest.approx(sk.roc_auc_score(truth, probabilities, multi_class="ovr"))


def test_classes_in_another_order_than_the_alphabet_give_the_same_numbers(make_predictions):
    predictions = make_predictions(NAMES)
    first, second = (measure(predictions, names, replicates=0) for names in (NAMES, NAMES[::-1]))
    for name in ("accuracy", "log_loss", "brier", "roc_area", "pr_area", "calibration_error"):
        assert first[name] == pytest.approx(second[name])
    assert first["confusion_matrix"] == [row[::-1] for row in second["confusion_matrix"]][::-1]


def test_what_the_images_do_not_define_is_null_and_all_is_json(make_predictions):
    predictions = make_predictions(NAMES)
    only_cats = predictions[predictions["truth"] == "cats"]
    measured = measure(only_cats, NAMES, replicates=50)
    assert measured["roc_area"] is None and measured["intervals"]["roc_area"] is None
    assert measured["per_class"]["dogs"] == {
        "precision": 0.0, "recall": None, "f1": None, "support": 0, "roc_area": None, "pr_area": None,
    }  # fmt: skip
    assert measured["balanced_accuracy"] == measured["accuracy"]
    json.dumps(measured, allow_nan=False)


def test_the_temperature_is_taken_back_for_calibration_before_it(make_predictions):
    predictions = make_predictions(NAMES, skill=1.5)
    columns = [f"p:{name}" for name in NAMES]
    before = measure(predictions, NAMES, replicates=0)
    cooled = predictions[columns].to_numpy() ** (1 / 2.5)
    tempered = predictions.copy()
    tempered[columns] = cooled / cooled.sum(axis=1, keepdims=True)
    after = measure(tempered, NAMES, temperature=2.5, replicates=0)
    assert after["log_loss"] != pytest.approx(before["log_loss"])
    assert after["calibration"]["before"]["log_loss"] == pytest.approx(before["log_loss"])
    assert after["calibration"]["before"]["error"] == pytest.approx(before["calibration_error"])


def test_a_certain_answer_has_a_finite_loss_and_calibration():
    measured = measure(
        table([("cats", 0.0), ("dogs", 1.0), ("cats", 1.0)]), ("cats", "dogs"), 2.0, replicates=20
    )
    assert np.isfinite(measured["log_loss"]) and np.isfinite(measured["calibration"]["before"]["log_loss"])
    low, high = measured["intervals"]["log_loss"]
    assert low <= measured["log_loss"] <= high


def test_a_class_that_the_model_does_not_know_is_named(make_predictions):
    predictions = make_predictions(NAMES)
    with pytest.raises(DataError, match="hold hens, which the model does not know"):
        measure(predictions, ("cats", "dogs"))


def test_no_predictions_and_probabilities_that_are_no_numbers_are_refused(make_predictions):
    predictions = make_predictions(NAMES)
    with pytest.raises(DataError, match="no predictions"):
        measure(predictions.iloc[:0], NAMES)
    predictions.loc[3, "p:cats"] = np.nan
    with pytest.raises(DataError, match="no numbers"):
        measure(predictions, NAMES)
