"""Work on many files by several processes at once, with the same memory whatever their number.

Each worker is a fresh Python that runs one function and talks JSON over its pipes. Python's own process pools
either copy the locks of other threads (fork) or run the caller's script a second time (spawn), and their idle
workers outlive a parent that is killed; these end when their pipe does.
"""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import IO, Any, TypeVar, cast

from vggflow.errors import VggflowError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 32
# Below this number, starting processes takes longer than they save.
FEW = 300
# Not SIGKILL: that comes from outside, as where memory runs out, and no file is to blame.
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT}
# A worker is one of as many as there are cores, so its matrix products keep to one.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def for_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int | None = None,
    crashed: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """The results in the order of the items, as they come.

    Args:
        function: of a module, not nested; it takes and returns what JSON can hold.
        processes: how many at once; by default as many as this process may use cores. One, and fewer than
            `FEW` items, are worked on in this process.
        crashed: the result for an item at which native code takes its process down.

    Raises:
        VggflowError: a worker was killed from outside, had no memory left, or crashed and there is no result
            for that.
    """
    # Not `os.cpu_count`, which also counts cores that this process may not use.
    processes = processes or len(os.sched_getaffinity(0))
    if processes == 1 or len(items) < FEW:
        yield from map(function, items)
        return
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    # A thread for each worker, which does no more than wait at its pipe.
    with closing(_Team(function, processes)) as team, ThreadPoolExecutor(processes) as threads:
        running: deque[Future[list[Any]]] = deque()
        for batch in batches:
            running.append(threads.submit(_results, team, batch, crashed))
            # Only so many batches are under way that results never pile up.
            if len(running) == 4 * processes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()


def work(name: str) -> None:
    """What a worker does: answers each line of items with a line of results until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    module, function_name = name.split(":")
    function = getattr(importlib.import_module(module), function_name)
    for line in sys.stdin.buffer:
        results = [function(item) for item in json.loads(line)]
        sys.stdout.buffer.write(json.dumps(results).encode() + b"\n")
        sys.stdout.buffer.flush()


class _CrashedError(Exception):
    """Native code took a worker down."""


class _Team:
    """Workers that answer one batch at a time; one that crashes is replaced."""

    def __init__(self, function: Callable[..., Any], count: int) -> None:
        name = f"{function.__module__}:{function.__qualname__}"
        self._command = [sys.executable, "-m", "vggflow.data.parallel", name]
        self._started: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for _ in range(count):
            self._start()

    def ask(self, batch: Sequence[Any]) -> list[Any]:
        """The results of a batch."""
        worker = self._idle.get()
        stdin, stdout = cast("tuple[IO[bytes], IO[bytes]]", (worker.stdin, worker.stdout))
        try:
            stdin.write(json.dumps(batch).encode() + b"\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer and worker.wait() in _CRASHES:
            self._start()
            raise _CrashedError
        # A dead one too: a thread that waits for a worker has to meet an error, not to wait for ever.
        self._idle.put(worker)
        if not answer:
            raise VggflowError(
                f"a process that looks at images ended early (killed, or out of memory) at one of {len(batch)} "
                f"files from {batch[0]} on; run it again"
            )
        results: list[Any] = json.loads(answer)
        return results

    def close(self) -> None:
        """Ends them, at work or not."""
        for worker in self._started:
            worker.kill()
            worker.communicate()

    def _start(self) -> None:
        worker = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **_ONE_THREAD}
        )
        self._started.append(worker)
        self._idle.put(worker)


def _results(team: _Team, batch: Sequence[Any], crashed: Callable[[Any], Any] | None) -> list[Any]:
    """The results of a batch; where a worker crashes, halves of it lead to the item that is to blame."""
    try:
        return team.ask(batch)
    except _CrashedError:
        if len(batch) > 1:
            middle = len(batch) // 2
            return [r for half in (batch[:middle], batch[middle:]) for r in _results(team, half, crashed)]
        if crashed is None:
            raise VggflowError(f"{batch[0]} crashes the process that looks at it: remove it") from None
        return [crashed(batch[0])]


if __name__ == "__main__":
    work(sys.argv[1])
