"""Workers on a cluster that hold something heavy, such as a network: one a node, or one a GPU.

One that dies is replaced, and its pieces are done again.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vggflow import cluster
from vggflow.errors import VggflowError

# One that is worked on, one whose images are fetched meanwhile.
PIECES_PER_WORKER = 2
# A cluster that grows by demand starts a machine in that time.
SECONDS_FOR_A_WORKER = 600.0


def for_each(
    holder: Callable[[Any], Any],
    given: Any,
    pieces: Iterable[Any],
    settle: Callable[[Any, Any], Any] | None = None,
    *,
    gpu: bool = False,
) -> Generator[Any]:
    """The results of pieces of work in their order, as they come; see `cluster.for_each`.

    Args:
        holder: a class of a module, made on each worker with `given`; its method `work` takes a piece; two threads
            call it.
        gpu: whether each needs a GPU of its own.

    Raises:
        VggflowError: as `cluster.for_each`, or no node has room for a worker.
    """
    crew = _Crew(cluster.connect(), cluster.name_of(holder), given, gpu=gpu)
    running: deque[_Piece] = deque()
    try:
        for piece in pieces:
            running.append(crew.ask(piece))
            while len(running) >= PIECES_PER_WORKER * crew.size():
                yield crew.result(running, settle)
        while running:
            yield crew.result(running, settle)
    finally:
        crew.end()


class Holder:
    """What runs on a worker: Ray makes it, and calls it by the names of its methods."""

    def prepare(self, expected: Mapping[str, str], name: str, given: Any) -> None:
        """Makes what it holds; not in its constructor, whose errors Ray tells as text only."""
        cluster.refuse_others(expected)
        self._held: Any = cluster.named(name)(given)

    def work(self, piece: Any) -> Any:
        """What comes of a piece."""
        return self._held.work(piece)


@dataclass
class _Piece:
    """A piece of work under way, with who does it, and how often it was begun."""

    piece: Any
    worker: Any
    reference: Any
    begun: int


class _Crew:
    """A piece goes to a worker that is ready and has fewest."""

    def __init__(self, ray: Any, name: str, given: Any, *, gpu: bool) -> None:
        self._ray = ray
        self._how = (cluster.here(), name, ray.put(given))
        self._options = {"num_cpus": 1, "num_gpus": int(gpu), "max_concurrency": PIECES_PER_WORKER}
        # By worker: what tells that it is ready, until it is; then how many pieces it has.
        self._starting: dict[Any, Any] = {}
        self._pieces: dict[Any, int] = {}
        for node in _places(ray, gpu=gpu):
            self._start(node)
        self._failures = cluster.RETRIES * self.size()

    def size(self) -> int:
        """How many workers there are, some of which may not be ready yet."""
        return len(self._pieces) + len(self._starting)

    def ask(self, piece: Any, begun: int = 1) -> _Piece:
        """Gives a piece to a worker; waits where none is ready."""
        self._welcome()
        worker = min(self._pieces, key=lambda each: self._pieces[each])
        self._pieces[worker] += 1
        return _Piece(piece, worker, worker.work.remote(piece), begun)

    def result(self, running: deque[_Piece], settle: Callable[[Any, Any], Any] | None) -> Any:
        """The result of the first piece under way, which then is under way no more."""
        while True:
            first = running[0]
            try:
                answer = self._get(first.reference)
            except self._ray.exceptions.RayActorError as error:
                self._replace(first.worker, error)
                for number, each in enumerate(running):
                    if each.worker is first.worker:
                        running[number] = self._again(each, error)
                continue
            self._pieces[first.worker] -= 1
            result = settle(first.piece, answer) if settle else answer
            if not isinstance(result, cluster.Again):
                running.popleft()
                return result
            running[0] = self.ask(result.piece, first.begun)

    def end(self) -> None:
        """Ends all workers, at work or not."""
        for worker in [*self._pieces, *self._starting]:
            # Where the cluster is gone there is nothing left to end.
            with suppress(self._ray.exceptions.RayError, ConnectionError):
                self._ray.kill(worker)

    def _get(self, reference: Any) -> Any:
        with cluster.explaining(self._ray):
            return self._ray.get(reference)

    def _start(self, node: str | None) -> None:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        where = {"scheduling_strategy": strategy(node, soft=True)} if node else {}
        worker = self._ray.remote(Holder).options(**self._options, **where).remote()
        self._starting[worker] = worker.prepare.remote(*self._how)

    def _welcome(self) -> None:
        """Those that became ready are; the first is waited for."""
        while self._starting:
            workers = {reference: worker for worker, reference in self._starting.items()}
            wanted, seconds = (len(workers), 0.0) if self._pieces else (1, SECONDS_FOR_A_WORKER)
            ready, _ = self._ray.wait(list(workers), num_returns=wanted, timeout=seconds)
            for reference in ready:
                self._begin(workers[reference], reference)
            if self._pieces:
                return
            if not ready:
                raise VggflowError(
                    f"no node of the cluster had room for a worker within {SECONDS_FOR_A_WORKER:g} s: it has other "
                    "work, or no node has what is needed"
                )

    def _begin(self, worker: Any, reference: Any) -> None:
        del self._starting[worker]
        try:
            self._get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._replace(worker, error)
        else:
            self._pieces[worker] = 0

    def _replace(self, worker: Any, error: Exception) -> None:
        self._pieces.pop(worker, None)
        self._failures -= 1
        if self._failures < 0:
            raise _lost(error)
        # Wherever there is room: its node may be gone.
        self._start(None)

    def _again(self, piece: _Piece, error: Exception) -> _Piece:
        if piece.begun > cluster.RETRIES:
            raise _lost(error)
        return self.ask(piece.piece, piece.begun + 1)


def _lost(error: Exception) -> VggflowError:
    return VggflowError(f"workers of the cluster died again and again: {cluster.first_line(error)}")


def _places(ray: Any, *, gpu: bool) -> list[str]:
    """The nodes that workers start on, as often as there is to be one."""
    kind = "GPU" if gpu else "CPU"
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(kind)]
    if not alive:
        raise VggflowError(f"the cluster has no node with a {kind}: start one, or unset {cluster.ADDRESS}")
    return [node["NodeID"] for node in alive for _ in range(int(node["Resources"]["GPU"]) if gpu else 1)]
