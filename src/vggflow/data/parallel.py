"""Work on many files by several processes at once, with the same memory whatever their number."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from vggflow.errors import VggflowError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 32
# Below this number, starting processes takes longer than they save.
FEW = 300


def for_each(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int | None = None
) -> Iterator[Result]:
    """The results in the order of the items, as they come.

    Args:
        function: one that a fresh process can import.
        processes: how many at once; by default as many as this process may use cores.

    Raises:
        VggflowError: a process was killed from outside, or had no memory left.
    """
    processes = processes or len(os.sched_getaffinity(0))
    if processes == 1 or len(items) < FEW or not _can_start_processes():
        yield from map(function, items)
        return
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    # Started afresh, not forked: a fork copies the locks of other threads, TensorFlow's among them.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_prepare) as pool:
        try:
            for results in _in_order(pool, function, batches, ahead=4 * processes):
                yield from results
        except BrokenProcessPool as error:
            raise VggflowError(
                "a scanning process ended early: killed, or out of memory; run it again "
                "(in a script of your own, call it below `if __name__ == '__main__':`)"
            ) from error


def _in_order(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    batches: Sequence[Sequence[Item]],
    ahead: int,
) -> Iterator[list[Result]]:
    """Keeps only so many batches in the pool that results never pile up."""
    running: deque[Future[list[Result]]] = deque()
    try:
        for batch in batches:
            running.append(pool.submit(_batch, function, batch))
            if len(running) == ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _batch(function: Callable[[Item], Result], batch: Sequence[Item]) -> list[Result]:
    return [function(item) for item in batch]


def _can_start_processes() -> bool:
    """A program read from stdin has no file that a fresh process could import."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return main.__spec__ is not None or file is None or os.path.exists(file)  # noqa: PTH110


def _prepare() -> None:
    """Makes a worker end with its parent, and keep to one core.

    Left alone, an idle worker outlives a parent that was killed: it holds the other end of its own queue.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(1)
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
