"""What a person sees of a training: one bar for all its epochs, with loss, accuracy and images a second."""

import time
from collections.abc import Callable, Sequence

from vggflow.settings import Phase
from vggflow.training.job import Row

Advance = Callable[[int, int, str], None]
FEATURES = "images through the frozen layers"


class Bar:
    """Moves a bar over the steps of all phases, so that the time it shows as remaining is that of the training."""

    def __init__(self, advance: Advance, phases: Sequence[Phase], batch_size: int) -> None:
        self._advance = advance
        self._phases = phases
        self._batch_size = batch_size
        # The first epoch of each phase, counted over all of them.
        self._first: dict[str, int] = {}
        self._since: tuple[str, int, float] = ("", 0, 0.0)

    def features(self, done: int, total: int) -> None:
        """Images that went through the frozen layers."""
        self._advance(done, total, FEATURES + self._speed(FEATURES, done))

    def step(self, done: int, total: int, row: Row) -> None:
        """A step of an epoch: `done` of `total`."""
        speed = self._speed(str(row["phase"]), int(row["step"]) * self._batch_size)
        # By its number: the one before may not be told of as done yet, while its checkpoint is written.
        self.epoch(row)
        before = int(row["epoch"]) - 1
        self._advance(
            before * total + done,
            (before + self._epochs_left(row)) * total,
            f"{row['phase']}, epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.3f}{speed}",
        )

    def epoch(self, row: Row) -> None:
        """An epoch began, or is done, now or before the training was resumed."""
        self._first.setdefault(str(row["phase"]), int(row["epoch"]))

    def _epochs_left(self, row: Row) -> int:
        """Epochs that this phase and later ones may still take, this one included."""
        present = [phase.name for phase in self._phases].index(str(row["phase"]))
        coming = sum(phase.epochs for phase in self._phases[present:])
        return coming - (int(row["epoch"]) - self._first[str(row["phase"])])

    def _speed(self, what: str, images: int) -> str:
        """Images a second since the first report about the same, all that happens between epochs included."""
        now = time.monotonic()
        known, first, began = self._since
        if known != what:
            self._since = (what, images, now)
            return ""
        speed = (images - first) / max(now - began, 1e-9)
        return f", {speed:.{0 if speed >= 10 else 1}f} images/s"
