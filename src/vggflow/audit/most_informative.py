"""Which unlabelled images would teach most: those that are hardest to tell, spread out, none a copy of another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggflow.audit.out_of_fold import taught
from vggflow.audit.outliers import distances

Features = NDArray[np.float32]

# Of the hardest images so many times as are asked for are spread out.
SHORTLIST = 3
# Two images are copies that are nearer than so much of what an image usually is from those most like it. By ImageNet's
# weights that is 0.27 for 1,400 photographs, of which the one pair of near copies is 0.002 apart, the next one 0.094.
SHARE_OF_COPIES = 0.1
# What is usual is measured on so many.
MOST_MEASURED = 2_000
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Chosen:
    """Images to label next.

    Attributes:
        rows: Which of the candidates, the hardest first.
        suggested: Of each, the likeliest class as an index.
        probability: That one's probability.
        margin: How much likelier it is than the next class, 0 to 1.
        copies: How many candidates were passed over as copies of a labelled image or of another candidate.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    probability: NDArray[np.float64]
    margin: NDArray[np.float64]
    copies: int


def choose(
    labelled: Features,
    labels: NDArray[np.int64],
    candidates: Features,
    count: int,
    *,
    kept_apart: Features | None = None,
    seed: int = 0,
) -> Chosen:
    """The images that a classifier taught by the labelled ones tells with the least margin (Scheffer 2001), spread out.

    Of the three times as many with the least margin those are taken that lie farthest from all labelled and taken ones,
    one after the other (k-centre greedy: Sener and Savarese 2018).

    Args:
        labelled: Features of labelled images, shape (n, channels).
        labels: Their classes as indices.
        candidates: Features of the others, shape (m, channels).
        count: How many to choose, at most.
        kept_apart: Features of test images, which teach nothing; what is a copy of one is passed over too.
        seed: Of what the classifier is taught by, where there are very many.

    Raises:
        ValueError: the labelled images are all of one class.
    """
    answers, classes = taught(labelled, labels, candidates, seed=seed)
    two = np.partition(answers, -2, axis=1)[:, -2:]
    margin = two[:, 1] - two[:, 0]
    there = labelled if kept_apart is None else np.concatenate([labelled, kept_apart])
    order = np.argsort(margin, kind="stable")
    measured = there[:: max(1, len(there) // MOST_MEASURED)]
    copy = SHARE_OF_COPIES * float(np.median(distances(measured)))
    taken, copies = _spread(_directions(there), _directions(candidates), order, count, copy)
    taken = taken[np.argsort(margin[taken], kind="stable")]
    best = answers[taken].argmax(axis=1)
    return Chosen(taken, classes[best], answers[taken].max(axis=1), margin[taken], copies)


def _directions(features: Features) -> Features:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _spread(
    labelled: Features, candidates: Features, order: NDArray[np.int64], count: int, copy: float
) -> tuple[NDArray[np.int64], int]:
    """Rows of candidates in the order of their choice, and how many that were looked at are nearer than `copy`."""
    shortlist: list[int] = []
    distance: list[float] = []
    copies = 0
    for start in range(0, len(order), ROWS_AT_A_TIME):
        rows = order[start : start + ROWS_AT_A_TIME]
        nearest = _nearest(candidates[rows], labelled)
        far = nearest >= copy
        copies += int((~far).sum())
        shortlist += rows[far].tolist()
        distance += nearest[far].tolist()
        if len(shortlist) >= SHORTLIST * count:
            break
    left = np.array(shortlist[: SHORTLIST * count], np.int64)
    nearest = np.array(distance[: SHORTLIST * count])
    taken: list[int] = []
    while len(taken) < count and len(left):
        place = int(nearest.argmax())
        if nearest[place] < copy:  # what is left are copies of what was taken
            copies += len(left)
            break
        taken.append(int(left[place]))
        nearest = np.minimum(nearest, 1.0 - candidates[left] @ candidates[left[place]])
        left, nearest = np.delete(left, place), np.delete(nearest, place)
    return np.array(taken, np.int64), copies


def _nearest(rows: Features, others: Features) -> NDArray[np.float64]:
    """The cosine distance of each row to the nearest of the others."""
    found = np.full(len(rows), np.inf)
    for start in range(0, len(others), ROWS_AT_A_TIME):
        found = np.minimum(found, 1.0 - (rows @ others[start : start + ROWS_AT_A_TIME].T).max(axis=1))
    return found
