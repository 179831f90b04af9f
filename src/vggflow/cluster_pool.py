"""The workers of one run on a cluster, and who of them does which piece.

One that dies is replaced, and its pieces are done again. A piece that is late is given to another worker too, and the
first answer counts (J. Dean, S. Ghemawat: "MapReduce", 2004, section 3.6): Ray takes 15 s to miss a node.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from vggflow import cluster, console
from vggflow.errors import VggflowError

# What there is one worker for.
OnePer = Literal["core", "node", "gpu"]
# One that is worked on, one whose images are fetched meanwhile.
PIECES_PER_WORKER = 2
# So long may other work have all of the cluster, or one that grows by demand take to start a machine.
SECONDS_FOR_A_WORKER, SECONDS_UNTIL_TOLD = 3600.0, 30.0
SECONDS_BETWEEN_LOOKS_FOR_NODES = 5.0
# A piece is late after so many times what the last ones took, and not before a second.
LATE, SECONDS_UNTIL_LATE = 3.0, 1.0
TIMES_REMEMBERED = 100


class Holder:
    """What runs on a worker: Ray makes it, and calls it by the names of its methods."""

    def prepare(self, expected: Mapping[str, str], name: str, given: Any) -> None:
        """Makes what it holds; not in its constructor, whose errors Ray tells as text only."""
        cluster.refuse_others(expected)
        self._held: Any = cluster.named(name)(given)

    def work(self, piece: Any) -> Any:
        """What comes of a piece."""
        return self._held.work(piece)


@dataclass(frozen=True)
class _Try:
    """A piece that was given to a worker."""

    worker: Any
    reference: Any
    began: float


@dataclass
class Piece:
    """A piece of work under way, who does it (two, where the first is late), and how often it was begun."""

    piece: Any
    tries: list[_Try]
    begun: int


class Pool:
    """A piece goes to a worker that is ready and has fewest."""

    def __init__(self, ray: Any, name: str, given: Any, one_per: OnePer) -> None:
        self._ray = ray
        self._how = (cluster.here(), name, ray.put(given))
        self._options = {
            "num_cpus": 1,
            "num_gpus": int(one_per == "gpu"),
            "max_concurrency": PIECES_PER_WORKER,
        }
        self._one_per = one_per
        # By worker: what tells that it is ready, until it is; then how many pieces it has.
        self._starting: dict[Any, Any] = {}
        self._pieces: dict[Any, int] = {}
        # Workers that were late, until they answer; pieces of theirs that another one did.
        self._silent: set[Any] = set()
        self._left: list[_Try] = []
        self._times: deque[float] = deque(maxlen=TIMES_REMEMBERED)
        self._nodes: set[str] = set()
        self._start_on_new_nodes()
        if not self._starting:
            raise VggflowError(
                f"the cluster has no node with a {'GPU' if one_per == 'gpu' else 'CPU'}: start one, or unset "
                f"{cluster.ADDRESS}"
            )
        self._failures = cluster.RETRIES * self.size()

    def size(self) -> int:
        """How many workers there are, some of which may not be ready yet."""
        return len(self._pieces) + len(self._starting)

    def ask(self, piece: Any) -> Piece:
        """Gives a piece to a worker; waits where none is ready."""
        if time.monotonic() > self._looked + SECONDS_BETWEEN_LOOKS_FOR_NODES:
            self._start_on_new_nodes()
        return Piece(piece, [self._give(piece)], 1)

    def result(self, running: deque[Piece], settle: Callable[[Any, Any], Any] | None) -> Any:
        """The result of the first piece under way, which then is under way no more."""
        while True:
            answer, first = self._answer(running), running[0]
            result = settle(first.piece, answer) if settle else answer
            if not isinstance(result, cluster.Again):
                running.popleft()
                return result
            running[0] = Piece(result.piece, [self._give(result.piece)], first.begun)

    def end(self) -> None:
        """Ends all workers, at work or not."""
        for worker in [*self._pieces, *self._starting]:
            # Where the cluster is gone there is nothing left to end.
            with suppress(self._ray.exceptions.RayError, ConnectionError):
                self._ray.kill(worker)

    def _give(self, piece: Any) -> _Try:
        self._welcome()
        self._ask_what_was_left()
        ready = [worker for worker in self._pieces if worker not in self._silent] or list(self._pieces)
        worker = min(ready, key=lambda each: self._pieces[each])
        self._pieces[worker] += 1
        return _Try(worker, worker.work.remote(piece), time.monotonic())

    def _answer(self, running: deque[Piece]) -> Any:
        """What comes of the first piece under way, from whoever is first."""
        first = running[0]
        while True:
            done = self._wait(first)
            if done is None:
                self._give_to_another(running)
                continue
            try:
                answer = self._get(done.reference)
            except self._ray.exceptions.RayActorError as error:
                self._replace(done.worker, error)
                for piece in running:
                    self._again(piece, done.worker, error)
            except self._ray.exceptions.ObjectLostError as error:
                # It was done, and went with the node before it was fetched.
                self._answered(done.worker)
                self._again(first, done.worker, error)
            else:
                self._answered(done.worker)
                self._times.append(time.monotonic() - done.began)
                self._left += first.tries
                return answer

    def _wait(self, piece: Piece) -> _Try | None:
        """The first try that has an answer, which it then is no more; none where it is late.

        Workers that become ready meanwhile are.
        """
        while True:
            asked = {each.reference: each for each in piece.tries}
            starting = {reference: worker for worker, reference in self._starting.items()}
            late = self._seconds_until_late(piece)
            ready, _ = self._ray.wait([*asked, *starting], num_returns=1, timeout=late)
            if not ready:
                return None
            for reference in ready:
                if reference in asked:
                    piece.tries.remove(asked[reference])
                    return asked[reference]
                self._begin(starting[reference], reference)

    def _seconds_until_late(self, piece: Piece) -> float | None:
        # Two are enough, and one worker has nobody to help it.
        if len(piece.tries) > 1 or self.size() < 2:
            return None
        late = max(SECONDS_UNTIL_LATE, LATE * median(self._times or [0.0]))
        # Not at once, where it is late but nobody was free: then it is looked again.
        return max(SECONDS_UNTIL_LATE / 4, piece.tries[0].began + late - time.monotonic())

    def _give_to_another(self, running: deque[Piece]) -> None:
        """The first piece under way, which is late, where a worker has nothing to do."""
        workers = {each.reference: each.worker for piece in running for each in piece.tries}
        _, open_ = self._ray.wait(list(workers), num_returns=len(workers), timeout=0)
        busy = self._silent.union(workers[reference] for reference in open_)
        if busy.issuperset(self._pieces):
            return
        first = running[0]
        self._silent.add(first.tries[0].worker)
        first.tries.append(self._give(first.piece))

    def _ask_what_was_left(self) -> None:
        """Whether workers that were late have answered, or died."""
        references = [each.reference for each in self._left]
        ready = self._ray.wait(references, num_returns=len(references), timeout=0)[0] if references else []
        answered = [each for each in self._left if each.reference in ready]
        self._left = [each for each in self._left if each.reference not in ready]
        for each in answered:
            try:
                self._ray.get(each.reference)
            except self._ray.exceptions.RayActorError as error:
                self._replace(each.worker, error)
            except self._ray.exceptions.RayError:
                self._answered(each.worker)  # what it said was said by another one too
            else:
                self._answered(each.worker)

    def _answered(self, worker: Any) -> None:
        self._silent.discard(worker)
        if worker in self._pieces:
            self._pieces[worker] -= 1

    def _get(self, reference: Any) -> Any:
        with cluster.explaining(self._ray):
            return self._ray.get(reference)

    def _start_on_new_nodes(self) -> None:
        self._looked = time.monotonic()
        for node, count in _counts(self._ray.nodes(), self._one_per).items():
            if node not in self._nodes:
                self._nodes.add(node)
                for _ in range(count):
                    self._start(node)

    def _start(self, node: str | None) -> None:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        where = {"scheduling_strategy": strategy(node, soft=True)} if node else {}
        worker = self._ray.remote(Holder).options(**self._options, **where).remote()
        self._starting[worker] = worker.prepare.remote(*self._how)

    def _welcome(self) -> None:
        """Those that became ready are; the first is waited for."""
        began, told = time.monotonic(), False
        while self._starting:
            workers = {reference: worker for worker, reference in self._starting.items()}
            wanted, seconds = (len(workers), 0.0) if self._pieces else (1, SECONDS_UNTIL_TOLD)
            ready, _ = self._ray.wait(list(workers), num_returns=wanted, timeout=seconds)
            for reference in ready:
                self._begin(workers[reference], reference)
            if self._pieces:
                return
            if time.monotonic() > began + SECONDS_FOR_A_WORKER:
                raise VggflowError(
                    f"no node of the cluster had room for a worker within {SECONDS_FOR_A_WORKER / 60:g} minutes: it "
                    "has other work, or no node has what is needed"
                )
            if not ready and not told:
                told = True
                console.tell("waiting for room on the cluster: its nodes have other work, or are starting")

    def _begin(self, worker: Any, reference: Any) -> None:
        del self._starting[worker]
        try:
            self._get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._pieces[worker] = 0
            self._replace(worker, error)
        else:
            self._pieces[worker] = 0

    def _replace(self, worker: Any, error: Exception) -> None:
        self._silent.discard(worker)
        if self._pieces.pop(worker, None) is None:
            return
        self._failures -= 1
        if self._failures < 0:
            raise _lost(error)
        # Wherever there is room: its node may be gone.
        self._start(None)

    def _again(self, piece: Piece, worker: Any, error: Exception) -> None:
        """Begins a piece once more of which nobody but a worker that is gone was at work."""
        piece.tries = [each for each in piece.tries if each.worker is not worker]
        if piece.tries:
            return
        if piece.begun > cluster.RETRIES:
            raise _lost(error)
        piece.begun += 1
        piece.tries.append(self._give(piece.piece))


def _lost(error: Exception) -> VggflowError:
    return VggflowError(f"workers of the cluster died again and again: {cluster.first_line(error)}")


def _counts(nodes: Iterable[Mapping[str, Any]], one_per: OnePer) -> dict[str, int]:
    """How many workers each node can have."""
    alive = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
    kind = "GPU" if one_per == "gpu" else "CPU"
    counts = {node: int(resources.get(kind, 0)) for node, resources in alive.items()}
    return {node: min(count, 1) if one_per == "node" else count for node, count in counts.items() if count}
