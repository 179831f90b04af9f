"""Pictures with the same perceptual hash: most are copies, but variants in other colours have it too."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggflow.gate.pair_similarity import Likeness

Indices = NDArray[np.int64]

# So many different pictures of one hash are told apart; each takes a comparison with all that are left.
LEADERS = 16
# Up to here every picture of a hash is compared with every other one.
FEW = 8


class Equal(NamedTuple):
    """What comparing pictures of equal hashes found.

    `leaders` are rows that differ from each other, one for each kind of picture of a hash, sorted; `copies` are
    pairs of rows, shape (N, 2).
    """

    leaders: Indices
    copies: Indices


def compare_equal(which: Indices, likeness: Likeness, enough: float) -> Equal:
    """Compares the pictures of each hash with the first of them, then those that differ with the first of those,
    and so on: the work grows with the number of pictures, not with its square.

    Args:
        which: the number of each picture's hash.
        enough: from which similarity on two pictures are copies.
    """
    waiting = np.arange(len(which))
    leaders, copies = [], [np.empty((0, 2), np.int64)]
    # What still waits after the last round is neither leader nor copy: `not_compared_equal` counts its pairs.
    for _ in range(LEADERS):
        _, first, place = np.unique(which[waiting], return_index=True, return_inverse=True)
        leaders.append(waiting[first])
        pairs = np.stack([waiting[first][place], waiting], axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        if not len(pairs):
            break
        alike = np.array([similarity >= enough for similarity in likeness.of(pairs)], dtype=bool)
        copies.append(pairs[alike])
        waiting = pairs[~alike, 1]
    return Equal(np.sort(np.concatenate(leaders)), np.concatenate(copies))


def pairs_of_few(which: Indices, equal: Equal) -> Indices:
    """All pairs of pictures of hashes that few pictures and more than one leader have, shape (N, 2).

    A copy of a copy may differ from the leader, so comparing with leaders is not enough.
    """
    found = [np.empty((0, 2), np.int64)]
    for rows in _mixed(which, equal):
        if len(rows) <= FEW:
            one, other = np.triu_indices(len(rows), k=1)
            found.append(np.stack([rows[one], rows[other]], axis=1))
    return np.concatenate(found)


def not_compared_equal(which: Indices, labels: Indices, asked: Indices, equal: Equal) -> int:
    """How many pairs of one hash ended in different groups without having been compared.

    Args:
        labels: the group of each picture.
        asked: the pairs that were compared, shape (N, 2), each once.
    """
    same = which[asked[:, 0]] == which[asked[:, 1]]
    apart = asked[same & (labels[asked[:, 0]] != labels[asked[:, 1]])]
    compared = np.bincount(which[apart[:, 0]], minlength=int(which.max(initial=0)) + 1)
    left = 0
    for rows in _mixed(which, equal):
        if len(rows) > FEW:
            sizes = np.unique(labels[rows], return_counts=True)[1]
            # All pairs less those within a group, less those that were looked at.
            left += (len(rows) ** 2 - int((sizes**2).sum())) // 2 - int(compared[which[rows[0]]])
    return left


def _mixed(which: Indices, equal: Equal) -> list[Indices]:
    """The rows of each hash that has more than one leader."""
    mixed = np.flatnonzero(np.bincount(which[equal.leaders], minlength=1) > 1)
    rows = np.flatnonzero(np.isin(which, mixed))
    rows = rows[np.argsort(which[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(which[rows])) + 1) if len(rows) else []
