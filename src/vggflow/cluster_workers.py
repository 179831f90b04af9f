"""Workers on a cluster that hold something, such as a network: one a core, a node or a GPU."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from vggflow import cluster
from vggflow.cluster_pool import PIECES_PER_WORKER, OnePer, Piece, Pool

__all__ = ["OnePer", "for_each"]


def for_each(
    holder: Callable[[Any], Any],
    given: Any,
    pieces: Iterable[Any],
    settle: Callable[[Any, Any], Any] | None = None,
    *,
    one_per: OnePer = "node",
) -> Generator[Any]:
    """The results of pieces of work in their order, as they come; so many are under way that no worker waits.

    Args:
        holder: a class of a module, made on each worker with `given`; its method `work` takes a piece and returns a
            plain value, the same whoever works; two threads call it.
        settle: what a piece and its answer come to: the result, or `cluster.Again` with another piece to ask instead.
        one_per: for what there is a worker: each core, node or GPU of the cluster, also those of nodes that join later.

    Raises:
        VggflowError: a node has other software, no node has room for a worker, or workers die again and again.
    """
    pool = Pool(cluster.connect(), cluster.name_of(holder), given, one_per)
    running: deque[Piece] = deque()
    try:
        for piece in pieces:
            running.append(pool.ask(piece))
            while len(running) >= PIECES_PER_WORKER * pool.size():
                yield pool.result(running, settle)
        while running:
            yield pool.result(running, settle)
    finally:
        pool.end()
