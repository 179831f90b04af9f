"""Writes checkpoints while the next epoch trains."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from types import TracebackType
from typing import Self

import psutil

from vggflow.features.array_files import Arrays
from vggflow.training.checkpoints import Checkpoints, Progress

# Of the memory that is free, what the numbers of a checkpoint may take beside an epoch.
SHARE_OF_MEMORY = 0.125


class CheckpointWriter:
    """One checkpoint at a time in a thread; who waits for one hears of it in the thread that asked.

    However the block ends, what is being written is on disk by then.
    """

    def __init__(self, place: Checkpoints) -> None:
        self._place = place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: tuple[Future[None], Callable[[], None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.finish()

    def begin(
        self, progress: Progress, arrays: Arrays, best: Arrays | None, written: Callable[[], None]
    ) -> None:
        """Begins to write a checkpoint, after the one before it; waits for it if its numbers take much of the memory.

        Args:
            progress: Taken as it is now, whatever it becomes.
            arrays: What `Checkpoints.save` is given; nobody may change them from now on.
            best: The weights of `progress.best_epoch`, if that is new.
            written: Called by `tell` or `finish`, once the checkpoint is on disk.

        Raises:
            VggflowError: there was no room for the one before.
            OSError: that could not be written.
        """
        self.finish()
        self._under_way = (self._thread.submit(self._write, deepcopy(progress), arrays, best), written)
        taken = sum(values.nbytes for some in (arrays, best or {}) for values in some.values())
        if taken > SHARE_OF_MEMORY * psutil.virtual_memory().available:
            self.finish()

    def tell(self) -> None:
        """Calls `written` if the checkpoint is on disk by now; raises as `finish` does."""
        if self._under_way and self._under_way[0].done():
            self.finish()

    def finish(self) -> None:
        """Waits until the checkpoint is on disk, and calls `written` unless that was done.

        Raises:
            VggflowError: there is no room for it.
            OSError: it can't be written.
        """
        if self._under_way:
            (writing, written), self._under_way = self._under_way, None
            writing.result()
            written()

    def _write(self, progress: Progress, arrays: Arrays, best: Arrays | None) -> None:
        if best is not None:
            self._place.save_best(progress, best)
        self._place.save(progress, arrays)
