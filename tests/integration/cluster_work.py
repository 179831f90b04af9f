"""What workers of a cluster do with images in tests: functions of a module, as a worker imports them by name."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from vggflow.data.places import Place

CRASHING = b"crash"


def first_bytes(place: Sequence[Any]) -> list[Any]:
    """The name of an image and its length; native code crashes at one that begins so."""
    content = Place(*place).read()
    if content.startswith(CRASHING):
        os.kill(os.getpid(), signal.SIGSEGV)
    return [Place(*place).suffix, len(content)]


def crashed(_place: Sequence[Any]) -> list[Any]:
    return ["crashed", 0]


def slowly(place: Sequence[Any]) -> list[Any]:
    """The same, in time enough to be killed at it."""
    time.sleep(0.05)
    return first_bytes(place)


class Adding:
    """A worker that holds a number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def work(self, other: int) -> int:
        return self._number + other


class Whereabouts:
    """A worker that takes its time, and says where it is."""

    def __init__(self, seconds: float) -> None:
        import ray

        self._seconds, self._node = seconds, ray.get_runtime_context().get_node_id()

    def work(self, _piece: int) -> str:
        time.sleep(self._seconds)
        return self._node


class Sleeping:
    """A worker that takes its time for everything."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def work(self, _piece: int) -> None:
        time.sleep(self._seconds)
