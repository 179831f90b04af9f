"""The work of a run on a Ray cluster, where `RAY_ADDRESS` names one. The only module that imports Ray.

It joins a cluster and never starts one. Code is not sent: the nodes have the same vggflow, packages and processor, and
one that has not is refused by name. What a run started on the cluster ends with it.
"""

import importlib
import logging
import os
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from vggflow import packages, version
from vggflow.credentials import hide
from vggflow.errors import UsageError, VggflowError

ADDRESS = "RAY_ADDRESS"
SECONDS_TO_CONNECT = 10.0
SECONDS_TO_ANSWER = 60.0
# As often is a piece of work begun again that its node, or its worker, did not live to end.
RETRIES = 5
LOSSLESS = ("zlib", "zlib-ng")
PLACE = re.compile(r"\bip=([^\s,)]+)")


@dataclass(frozen=True)
class Node:
    """A node that can work: its address, its cores and GPUs, and in what it differs from here, such as `jax 1 → 2`."""

    address: str
    cores: float
    gpus: float
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Again:
    """In place of a result: the piece has to be asked for once more, in this form."""

    piece: Any


def is_named() -> bool:
    """Whether there is a cluster to work on. Imports nothing."""
    return bool(os.environ.get(ADDRESS))


def connect() -> Any:
    """Ray, joined to the cluster.

    Raises:
        UsageError: Ray is not installed, or `RAY_ADDRESS` is no address.
        VggflowError: nothing answers there, or another version of Ray or Python.
    """
    address = os.environ.get(ADDRESS, "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    # Ray takes more, such as `local`, which starts a cluster here, and `auto`, which may find one that is long gone.
    if not host or not port.isdigit():
        raise UsageError(
            f"{ADDRESS} is {address!r}: expected HOST:PORT, or ray://HOST:PORT from outside the cluster"
        )
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"{ADDRESS} is set, but Ray is not installed: `pip install 'vggflow[ray]'`, or unset it"
        ) from error
    # Else each piece that is under way when one fails is told at the end, with its traceback.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    # Else what a killed run began through `ray://` goes on for half a minute, in case that it comes back.
    os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "0")
    if not ray.is_initialized():
        _join(ray, address, (host, int(port)))
    return ray


def nodes() -> list[Node]:
    """The nodes that can work, each asked what it has.

    Raises:
        VggflowError: as `connect`; one does not answer.
    """
    ray = connect()
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    asked = [
        ray.remote(here)
        .options(num_cpus=0, scheduling_strategy=strategy(node["NodeID"], soft=False))
        .remote()
        for node in alive
    ]
    found = []
    for node, answer in zip(alive, asked, strict=True):
        address, resources = node["NodeManagerAddress"], node["Resources"]
        try:
            told = tuple(differences(ray.get(answer, timeout=SECONDS_TO_ANSWER)))
        except ray.exceptions.RayTaskError as error:
            told = (f"vggflow {version.stamp()} → {first_line(error.cause)}",)
        except ray.exceptions.RayError as error:
            raise VggflowError(
                f"node {address} of the cluster does not answer: {first_line(error)}"
            ) from None
        found.append(Node(address, resources["CPU"], resources.get("GPU", 0.0), told))
    return found


def here() -> dict[str, str]:
    """What has to be the same on all nodes, by name: Python, vggflow and its source, packages, and the processor."""
    found = {"Python": platform.python_version(), "vggflow": version.stamp(), **packages.of_results("jax")}
    # What unpacks without loss gives the same in every version, and where TensorFlow is, its own goes before Pillow's.
    found = {name: number for name, number in found.items() if name not in LOSSLESS}
    return found | packages.computing()


def differences(there: Mapping[str, str]) -> list[str]:
    """In what another machine differs from this one: `jax 0.11.2 → 0.10.2`, what is here first."""
    ours = here()
    names = [name for name in {**ours, **there} if ours.get(name) != there.get(name)]
    return [f"{name} {ours.get(name, 'none')} → {there.get(name, 'none')}" for name in names]


# Of the environment that a process started with, however many pieces it works on.
_here = cache(here)


def refuse_others(expected: Mapping[str, str]) -> None:
    """Called on a worker with what `here` gave where the run was started.

    Raises:
        UsageError: this worker has something else.
    """
    ours = _here()
    if ours == expected:
        return
    names = [name for name in {**expected, **ours} if ours.get(name) != expected.get(name)]
    told = ", ".join(f"{name} {ours.get(name, 'none')} (here {expected.get(name, 'none')})" for name in names)
    raise UsageError(
        f"node {socket.gethostname()} of the cluster has {told}: install there what is installed here, or take it off"
    )


def name_of(function: Callable[..., Any]) -> str:
    """How a function of a module is called to a worker: `vggflow.gate.inspect_file:inspect`."""
    return f"{function.__module__}:{function.__qualname__}"


def named(name: str) -> Callable[[Any], Any]:
    """The function that is called so."""
    module, function = name.split(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found


@contextmanager
def explaining(ray: Any) -> Iterator[None]:
    """Turns Ray's errors into one line; those of vggflow on a worker are raised as they were there.

    Raises:
        VggflowError: the cluster failed.
        RayActorError: a worker died.
        ObjectLostError: what a worker found is gone with its node.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VggflowError):
            raise error.cause from None
        if isinstance(error.cause, ray.exceptions.RayError | ImportError):
            raise _unable(error, first_line(error.cause)) from None
        raise  # a bug, which keeps its traceback
    except ray.exceptions.RayActorError as error:
        # Its class can't be imported there: the cause is the last line of a traceback of several.
        if error.actor_init_failed:
            raise _unable(error, hide(str(error).strip().splitlines()[-1])) from None
        raise  # who has workers asks another one
    except ray.exceptions.ObjectLostError:
        raise  # the same
    except ray.exceptions.RayError as error:
        raise VggflowError(f"the cluster at {os.environ.get(ADDRESS)} failed: {first_line(error)}") from None


def _unable(error: BaseException, why: str) -> VggflowError:
    return VggflowError(
        f"node {_place(error)} of the cluster can't do its work: {why}; install there what is installed here, or "
        "take it off"
    )


def _place(error: BaseException) -> str:
    """The address of the node that an error comes from, which is in its text only."""
    found = PLACE.search(str(error))
    return found[1] if found else "of an unknown address"


def first_line(error: BaseException) -> str:
    """What an error says, in a line and without passwords."""
    return hide((str(error).strip().splitlines() or [type(error).__name__])[0])


def _join(ray: Any, address: str, place: tuple[str, int]) -> None:
    try:
        socket.create_connection(place, timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    failures: list[Exception] = []
    # In a thread, as Ray waits for minutes for what does not answer, and takes SIGTERM for itself in the main one.
    thread = threading.Thread(
        target=_initialize, args=(ray, address, failures), daemon=True, name="join-cluster"
    )
    thread.start()
    thread.join(SECONDS_TO_CONNECT)
    if thread.is_alive():
        raise _unreachable(address, f"no answer within {SECONDS_TO_CONNECT:g} s")
    if failures:
        raise _unreachable(address, first_line(failures[0])) from failures[0]


def _initialize(ray: Any, address: str, failures: list[Exception]) -> None:
    try:
        # It warns that SIGTERM stays ours.
        logging.getLogger("ray").setLevel(logging.ERROR)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        _silence(ray)
    except Exception as error:  # noqa: BLE001 (raised again where somebody waits for it)
        failures.append(error)


def _silence(ray: Any) -> None:
    """Ray's paragraphs about each lost worker go to stdout, which programs read, and no setting keeps them from it.

    The same steps, in which it ends the thread that prints them when it leaves a cluster.
    """
    with suppress(AttributeError):  # as through `ray://`, which prints none
        worker = ray._private.worker.global_worker
        worker.threads_stopped.set()
        worker.gcs_error_subscriber.close()


def _unreachable(address: str, why: str) -> VggflowError:
    return VggflowError(
        f"the cluster at {address} can't be reached ({why}): start it, or unset {ADDRESS} to work on this machine"
    )
