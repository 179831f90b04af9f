"""What a linear classifier says of each image that was taught without it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

FOLDS = 5
FOLDS_TO_CHOOSE_BY = 2
# scikit-learn's `C`, the inverse of the penalty, for vectors of mean variance 1. On 1,000 photographs with 50 swapped
# labels the first 50 held 0.86 of them at 0.003, 0.69 at 1: what is penalised less learns the wrong labels.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)
# A fold's classifier is taught by so many images at most: with some hundred numbers each, more teach it little.
MOST_TO_LEARN_FROM = 20_000
MOST_STEPS = 200
# scikit-learn weighs all folds for each group anew: 0.4 ms an image, so half a minute for 80,000.
MOST_TO_BALANCE = 5_000
# Multiply-adds of a step from which on threads are worth it: where others compute too, they wait for each other, and
# 1,400 images took 10 s instead of 0.4.
FEWEST_FOR_THREADS = 10**8
ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class OutOfFold:
    """Of each image, all of shape (n,).

    Attributes:
        given: The probability of its label, 0 to 1.
        suggested: The likeliest class, as an index.
        probability: That one's probability.
    """

    given: NDArray[np.float64]
    suggested: Labels
    probability: NDArray[np.float64]


def out_of_fold(
    features: Features,
    labels: Labels,
    groups: Labels,
    *,
    most: int = MOST_TO_LEARN_FROM,
    seed: int = 0,
) -> OutOfFold:
    """Logistic regression on features, each fold asked of a classifier that the other folds taught.

    The vectors count by their direction (length 1). The penalty is the one whose answers in two folds have the least
    loss: with ten seeds on 1,000 photographs that was the one by all five; one fold alone took another one once.

    Args:
        features: Shape (n, channels).
        labels: Indices of classes, shape (n,).
        groups: A number for each image; those with an equal one are copies and stay in one fold, since a copy would
            vouch for its own label.
        most: How many images a fold's classifier is taught by.
        seed: Of the folds and of what a classifier learns from.

    Raises:
        ValueError: there is only one class, or fewer than two groups of images.
    """
    _refuse_one_class(labels, groups)
    directions = _directions(features)
    folds = _folds(labels, groups, seed)
    strength = _strength(directions, labels, folds, seed, most)
    return _with(directions, labels, folds, strength, seed, most)


def taught(
    features: Features, labels: Labels, asked: Features, *, seed: int = 0
) -> tuple[NDArray[np.float64], Labels]:
    """The same classifier, taught by all labelled images, about others: probabilities (m, classes), and the classes.

    Raises:
        ValueError: the labelled images are all of one class.
    """
    groups = np.arange(len(labels))
    _refuse_one_class(labels, groups)
    directions = _directions(np.concatenate([features, asked]))
    known = directions[: len(labels)]
    strength = _strength(known, labels, _folds(labels, groups, seed), seed)
    rows = _some(groups, np.random.default_rng(seed))
    classifier = _fit(known[rows], labels[rows], strength)
    answers = [
        classifier.predict_proba(directions[start : start + ROWS_AT_A_TIME])
        for start in range(len(labels), len(directions), ROWS_AT_A_TIME)
    ]
    return np.concatenate(answers), np.asarray(classifier.classes_, np.int64)


def _refuse_one_class(labels: Labels, groups: Labels) -> None:
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < 2:
        raise ValueError("nothing can be told apart: expected labelled images of at least two classes")


def _strength(
    features: Features, labels: Labels, folds: Sequence[Labels], seed: int, most: int = MOST_TO_LEARN_FROM
) -> float:
    few = folds[:FOLDS_TO_CHOOSE_BY]

    def loss(strength: float) -> float:
        given = _with(features, labels, few, strength, seed, most).given[np.concatenate(few)]
        return float(-np.log(np.maximum(given, np.finfo(np.float64).tiny)).mean())

    return min(STRENGTHS, key=loss)


def _directions(features: Features) -> Features:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    found -= found.mean(axis=0)
    spread = float(found.std(axis=0).mean())
    return np.asarray(found / spread if spread else found, np.float32)


def _folds(labels: Labels, groups: Labels, seed: int) -> list[Labels]:
    """The images of each fold; classes are spread over all of them as far as groups allow."""
    count = min(FOLDS, len(np.unique(groups)))
    if len(labels) > MOST_TO_BALANCE:
        return _dealt(labels, groups, count, seed)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of few images is in fewer folds
        return [np.asarray(asked, np.int64) for _, asked in splitter.split(labels, labels, groups)]


def _dealt(labels: Labels, groups: Labels, count: int, seed: int) -> list[Labels]:
    """Groups dealt out like cards, one class after the other, each by the label of its first image."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    fold = np.empty(len(first), np.int64)
    fold[shuffled[np.argsort(labels[first][shuffled], kind="stable")]] = np.arange(len(first)) % count
    return [np.flatnonzero(fold[group] == number) for number in range(count)]


def _with(
    features: Features, labels: Labels, folds: Sequence[Labels], strength: float, seed: int, most: int
) -> OutOfFold:
    given, probability = np.zeros(len(labels)), np.zeros(len(labels))
    suggested = np.zeros(len(labels), np.int64)
    for number, asked in enumerate(folds):
        others = np.setdiff1d(np.arange(len(labels)), asked)
        others = _some(others, np.random.default_rng([seed, number]), most)
        if len(np.unique(labels[others])) < 2:  # one class alone is all that this fold's classifier could say
            suggested[asked], probability[asked] = labels[others][0], 1.0
            given[asked] = labels[asked] == labels[others][0]
            continue
        classifier = _fit(features[others], labels[others], strength)
        for start in range(0, len(asked), ROWS_AT_A_TIME):
            rows = asked[start : start + ROWS_AT_A_TIME]
            answers = classifier.predict_proba(features[rows])
            best = answers.argmax(axis=1)
            suggested[rows], probability[rows] = classifier.classes_[best], answers.max(axis=1)
            given[rows] = _of_label(answers, classifier.classes_, labels[rows])
    return OutOfFold(given, suggested, probability)


def _some(rows: Labels, random: np.random.Generator, most: int = MOST_TO_LEARN_FROM) -> Labels:
    return rows if len(rows) <= most else random.choice(rows, most, replace=False)


def _fit(features: Features, labels: Labels, strength: float) -> LogisticRegression:
    products = features.size * len(np.unique(labels))
    threads = 1 if products < FEWEST_FOR_THREADS else None
    with warnings.catch_warnings(), threadpool_limits(threads, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is nearly there is as good
        return LogisticRegression(C=strength, max_iter=MOST_STEPS).fit(features, labels)


def _of_label(answers: NDArray[np.float64], classes: Labels, labels: Labels) -> NDArray[np.float64]:
    """The probability of each row's label; 0 for a class that the classifier has not seen."""
    places = np.searchsorted(classes, labels)
    known = (places < len(classes)) & (classes[np.minimum(places, len(classes) - 1)] == labels)
    found = answers[np.arange(len(labels)), np.where(known, places, 0)]
    return np.where(known, found, 0.0)
