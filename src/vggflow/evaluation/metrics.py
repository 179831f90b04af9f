"""What a model is worth on labelled images, as numbers ready for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from vggflow.evaluation import answers, calibration, intervals
from vggflow.evaluation.answers import Answers

# On 2,000 images these take half a second, see `intervals`.
REPLICATES = 1000


def measure(
    predictions: pd.DataFrame,
    class_names: Sequence[str],
    temperature: float = 1.0,
    replicates: int = REPLICATES,
) -> dict[str, Any]:
    """All measures of one model; null where the images don't define one, such as an area for one class.

    Args:
        predictions: A predictions table.
        class_names: The K classes in the order of the model.
        temperature: What the model divides its logits by, for calibration before and after.
        replicates: Bootstrap replicates for the 95 % intervals; 0 leaves the intervals out.

    Raises:
        DataError: no rows, or a true class that the model does not know.
    """
    data = answers.read(predictions, class_names)
    per_class = _per_class(data, class_names)
    measured = {
        "images": len(data.truth),
        "accuracy": float(data.right.mean()),
        "balanced_accuracy": _mean([row["recall"] for row in per_class.values() if row["support"]]),
        "macro_f1": _mean([row["f1"] for row in per_class.values() if row["support"]]),
        # `labels`, since the images may lack a class: scikit-learn would refuse a column too many.
        "log_loss": float(sk.log_loss(data.truth, data.probabilities, labels=range(data.classes))),
        "brier": brier(data),
        "roc_area": _mean([row["roc_area"] for row in per_class.values()]),
        "pr_area": _mean([row["pr_area"] for row in per_class.values()]),
        "calibration_error": calibration.expected_error(data.confidence, data.right),
        "per_class": per_class,
        "class_names": list(class_names),
        "confusion_matrix": sk.confusion_matrix(data.truth, data.given, labels=range(data.classes)).tolist(),
        "calibration": _calibration(data, temperature),
    }
    if replicates:
        measured["intervals"] = intervals.bootstrap(data, class_names, replicates)
    return measured


def brier(data: Answers) -> float:
    """Half the squared distance between probabilities and truth: 0 to 1, for two classes the usual score."""
    distance = np.square(data.probabilities - np.eye(data.classes)[data.truth]).sum(axis=1)
    return float(distance.mean() / 2)


def _per_class(data: Answers, class_names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    # A class that is never answered has precision 0, here and in `intervals`.
    rows = sk.precision_recall_fscore_support(
        data.truth, data.given, labels=range(data.classes), zero_division=0.0
    )
    measured = {}
    for number, (name, precision, recall, f1, support) in enumerate(zip(class_names, *rows, strict=True)):
        roc, pr = _areas(data, number)
        measured[name] = {
            "precision": float(precision),
            "recall": float(recall) if support else None,
            "f1": float(f1) if support else None,
            "support": int(support),
            "roc_area": roc,
            "pr_area": pr,
        }
    return measured


def _areas(data: Answers, number: int) -> tuple[float | None, float | None]:
    """The areas below the ROC and the precision-recall curve, one class against the rest."""
    belongs = data.truth == number
    # With one kind of image there is no order to measure, and scikit-learn warns.
    if belongs.all() or not belongs.any():
        return None, None
    scores = data.probabilities[:, number]
    return float(sk.roc_auc_score(belongs, scores)), float(sk.average_precision_score(belongs, scores))


def _calibration(data: Answers, temperature: float) -> dict[str, Any]:
    plain = Answers(data.truth, calibration.without_temperature(data.probabilities, temperature))
    before = {
        "error": calibration.expected_error(plain.confidence, plain.right),
        "log_loss": float(sk.log_loss(plain.truth, plain.probabilities, labels=range(plain.classes))),
        "bins": [asdict(row) for row in calibration.reliability(plain.confidence, plain.right)],
    }
    after = [asdict(row) for row in calibration.reliability(data.confidence, data.right)]
    return {"temperature": temperature, "before": before, "bins": after}


def _mean(values: Sequence[float | None]) -> float | None:
    # NaN is no JSON: what is not defined is null.
    known = [value for value in values if value is not None and not isnan(value)]
    return float(np.mean(known)) if known else None
