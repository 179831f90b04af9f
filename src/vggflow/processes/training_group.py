"""The processes that train one model together, as the environment names them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from vggflow.environment import TRAINING_HOSTS, TRAINING_INDEX
from vggflow.errors import UsageError

AUTO = "auto"
# Who counts the processes of a job where nobody names this one: Kubernetes (indexed jobs, JobSets), Slurm, Open MPI.
COUNTED_BY = ("JOB_COMPLETION_INDEX", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
# And how many there are; Kubernetes does not say that here.
COUNTED = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
# Those that count the processes of a host; a pod is a host of its own.
COUNTED_ON_HOST_BY = ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")


@dataclass(frozen=True)
class Member:
    """A process of a training.

    Attributes:
        index: Which one, from 0. The first one writes all there is to write.
        hosts: Of all of them, the first with its port; none where JAX finds them by itself.
        first_on_host: Whether it locks its host's devices for all that share them.
        count: How many there are, where that is known before they meet.
    """

    index: int
    hosts: tuple[str, ...]
    first_on_host: bool
    count: int | None

    @property
    def leads(self) -> bool:
        """Whether this one writes checkpoints, model, history, outcome and run."""
        return self.index == 0


def member() -> Member | None:
    """Which process of which training this is; none where it trains alone.

    Raises:
        UsageError: the environment names hosts, but not well, or not which of them this is.
    """
    given = os.environ.get(TRAINING_HOSTS, "").strip()
    if not given:
        return None
    index = _index()
    if given == AUTO:
        on_host = _first_of(COUNTED_ON_HOST_BY) or "0"
        count = _first_of(COUNTED) or ""
        return Member(index, (), on_host == "0", int(count) if count.isdecimal() else None)
    hosts = tuple(host.strip() for host in given.split(","))
    port = hosts[0].rpartition(":")[2]
    if len(hosts) < 2 or not all(hosts) or ":" not in hosts[0] or not port.isdigit():
        raise UsageError(
            f"{TRAINING_HOSTS} is {given}, expected a host for each process, the first with its port: "
            f"host0:55527,host1; or {AUTO} in a job of Slurm or Kubernetes"
        )
    if index >= len(hosts):
        raise UsageError(
            f"this is process {index} of a training, counted from 0, but {TRAINING_HOSTS} names {len(hosts)}: "
            f"name them all there, or set {TRAINING_INDEX}"
        )
    names = [_without_port(host) for host in hosts]
    return Member(index, hosts, names.index(names[index]) == index, len(hosts))


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _first_of(names: Sequence[str]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _index() -> int:
    for name in (TRAINING_INDEX, *COUNTED_BY):
        if given := os.environ.get(name, "").strip():
            if not given.isdecimal():
                raise UsageError(f"{name} is {given}, expected which process of the training this is, from 0")
            return int(given)
    raise UsageError(
        f"{TRAINING_HOSTS} is set, but not which of these processes this is: set {TRAINING_INDEX}, from 0"
    )
