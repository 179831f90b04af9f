"""What each phase of a training reached, from its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class PhaseResult:
    """A phase: how many epochs it took, its best accuracy (0 to 1) and its least loss on valid."""

    name: str
    epochs: int
    accuracy: float
    loss: float


def phase_results(history: Sequence[Mapping[str, Any]]) -> list[PhaseResult]:
    """The phases of a training in their order.

    Args:
        history: A row per epoch with `phase`, `val_accuracy` and `val_loss`, as `history.json` holds them.
    """
    phases = ((name, list(rows)) for name, rows in groupby(history, key=lambda row: str(row["phase"])))
    return [
        PhaseResult(
            name,
            len(rows),
            max(float(row["val_accuracy"]) for row in rows),
            min(float(row["val_loss"]) for row in rows),
        )
        for name, rows in phases
    ]
