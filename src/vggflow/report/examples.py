"""Images worth looking at: the worst mistakes, and where challenger and champion disagree."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.prediction import table
from vggflow.promotion.comparison import Comparison, right

# Each of the worst mistakes costs a heat map: once forth and back through the network.
COUNT = 24


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        path: Relative to the data folder.
        truth: Its class.
        answer: What the challenger says.
        confidence: How sure the challenger is of that, 0 to 1.
        other_answer: What the champion says; None where only one model is looked at.
        other_confidence: How sure the champion is of that.
    """

    path: str
    truth: str
    answer: str
    confidence: float
    other_answer: str | None = None
    other_confidence: float | None = None


Examples = tuple[Example, ...]


def worst_mistakes(predictions: pd.DataFrame, count: int = COUNT) -> Examples:
    """The wrong answers in which the truth got the least probability, worst first."""
    wrong = np.flatnonzero(~right(predictions))
    # Stable, so that equally bad ones keep their order and the same numbers give the same page.
    order = np.argsort(_of_truth(predictions)[wrong], kind="stable")
    return _examples(predictions, wrong[order][:count])


def disagreements(
    comparison: Comparison, count: int = COUNT
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Images that only the challenger got right, and those that only the champion got right.

    Those on which the two differ most come first, at most `count` in each part. Empty without a champion.
    """
    if comparison.champion is None or not comparison.paired:
        return (), ()
    first, second = comparison.challenger.predictions, comparison.champion.predictions
    ours, theirs = right(first), right(second)
    gap = np.abs(_of_truth(first) - _of_truth(second))
    parts = []
    for differing in (ours & ~theirs, ~ours & theirs):
        rows = np.flatnonzero(differing & comparison.both_know)
        parts.append(_examples(first, rows[np.argsort(-gap[rows], kind="stable")][:count], second))
    return parts[0], parts[1]


def _examples(
    predictions: pd.DataFrame, rows: NDArray[np.int64], other: pd.DataFrame | None = None
) -> tuple[Example, ...]:
    paths, truths = predictions["path"].to_numpy(), predictions["truth"].to_numpy()
    answers, sure = table.labels(predictions), _confidence(predictions)
    if other is None:
        return tuple(Example(paths[r], truths[r], str(answers[r]), float(sure[r])) for r in rows)
    others, other_sure = table.labels(other), _confidence(other)
    return tuple(
        Example(paths[r], truths[r], str(answers[r]), float(sure[r]), str(others[r]), float(other_sure[r]))
        for r in rows
    )


def _confidence(predictions: pd.DataFrame) -> NDArray[np.float64]:
    return np.asarray(table.probabilities(predictions, table.class_names(predictions)).max(axis=1))


def _of_truth(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """The probability of the true class, shape (N,); 0.0 for a class that the model does not know."""
    names = table.class_names(predictions)
    known = predictions["truth"].isin(names).to_numpy()
    # Any column does for a class that the model does not know: its value is replaced below.
    columns = np.array(
        [names.index(name) if name in names else 0 for name in predictions["truth"]], dtype=np.int64
    )
    values = table.probabilities(predictions, names)[np.arange(len(predictions)), columns]
    return np.where(known, values, 0.0)
