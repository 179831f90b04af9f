"""Work on many files by several processes at once, with the same memory whatever their number.

Each worker is a fresh Python that runs one function and talks JSON over its pipes, or bytes where that is what the
function gives. Python's own process pools either copy the locks of other threads (fork) or run the caller's script a
second time (spawn), and their idle workers outlive a parent that is killed; these end when their pipe does.
"""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import accumulate
from typing import IO, Any, TypeVar, cast

from vggflow.errors import VggflowError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 32
LENGTHS = "lengths of bytes"
# Below this number, starting processes takes longer than they save.
FEW = 300
# Not SIGKILL: that comes from outside, as where memory runs out, and no file is to blame.
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT}
# A worker is one of as many as there are cores, so its matrix products keep to one.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def usable_cores() -> int:
    """Cores that this process may use: fewer than there are where it is bound to some, as in a container."""
    # Not `os.cpu_count`, which also counts cores that this process may not use.
    with suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Pillow decodes outside the interpreter's lock. 16 cores decode 2,004 images a second in 8 threads, 1,600 in 16: beyond
# these, processes do better. Two cores do a tenth less in 8 than in two, and beside a network a fifth less.
MOST_THREADS = 8
DECODING_THREADS = min(MOST_THREADS, usable_cores())


def for_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int | None = None,
    crashed: Callable[[Item], Result] | None = None,
) -> Generator[Result]:
    """The results in the order of the items, as they come.

    Args:
        function: of a module, not nested; it takes what JSON can hold, and returns that too, or bytes.
        processes: how many at once; by default as many as this process may use cores. One, and fewer than
            `FEW` items, are worked on in this process.
        crashed: the result for an item at which native code takes its process down.

    Raises:
        VggflowError: a worker was killed from outside, had no memory left, or crashed and there is no result
            for that.
    """
    processes = processes or usable_cores()
    if processes == 1 or len(items) < FEW:
        yield from map(function, items)
        return
    batches = (list(items[start : start + BATCH]) for start in range(0, len(items), BATCH))
    # A thread for each worker, which does no more than wait at its pipe.
    with closing(Team(function, processes)) as team, ThreadPoolExecutor(processes) as threads:
        running: deque[Future[list[Any]]] = deque()
        for batch in batches:
            running.append(threads.submit(results, team, batch, crashed))
            # Only so many batches are under way that results never pile up.
            if len(running) == 4 * processes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()


def work(name: str) -> None:
    """What a worker does: answers each line of items with a line of results until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True, name="parent-watch").start()
    module, function_name = name.split(":")
    function = getattr(importlib.import_module(module), function_name)
    for line in sys.stdin.buffer:
        results = [function(item) for item in json.loads(line)]
        as_bytes = [result for result in results if isinstance(result, bytes)]
        # Bytes follow the line that tells how many belong to each item.
        told = {LENGTHS: list(map(len, as_bytes))} if as_bytes else results
        sys.stdout.buffer.write(json.dumps(told).encode() + b"\n")
        for result in as_bytes:
            sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()


def _end_with_parent(parent: int) -> None:
    """Not only at the end of its pipe: a batch of large images takes longer than a killed run should leave anything."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class _CrashedError(Exception):
    """Native code took a worker down."""


class Team:
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
        # Before a worker is taken: what is no JSON has to be told, and leave it to the others.
        asked = json.dumps(batch).encode() + b"\n"
        worker = self._idle.get()
        stdin, stdout = cast("tuple[IO[bytes], IO[bytes]]", (worker.stdin, worker.stdout))
        try:
            stdin.write(asked)
            stdin.flush()
            answer = stdout.readline()
            results = _with_bytes(json.loads(answer), stdout) if answer else []
        except (BrokenPipeError, EOFError):
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


def _with_bytes(told: Any, stdout: IO[bytes]) -> list[Any]:
    """What a worker told, or the bytes whose lengths it told.

    Raises:
        EOFError: it died over them.
    """
    if not isinstance(told, dict) or LENGTHS not in told:
        return cast("list[Any]", told)
    lengths: list[int] = told[LENGTHS]
    content = stdout.read(sum(lengths))
    if len(content) < sum(lengths):
        raise EOFError
    ends = list(accumulate(lengths))
    # Views: what was read is not copied once more.
    return [memoryview(content)[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def results(team: Team, batch: Sequence[Any], crashed: Callable[[Any], Any] | None) -> list[Any]:
    """The results of a batch; where a worker crashes, halves of it lead to the item that is to blame."""
    try:
        return team.ask(batch)
    except _CrashedError:
        if len(batch) > 1:
            middle = len(batch) // 2
            return [r for half in (batch[:middle], batch[middle:]) for r in results(team, half, crashed)]
        if crashed is None:
            raise VggflowError(f"{batch[0]} crashes the process that looks at it: remove it") from None
        return [crashed(batch[0])]


if __name__ == "__main__":
    work(sys.argv[1])
