"""`vggflow …` that dies by SIGKILL half-way through a write: `python train_and_die.py KIND -C DIR train`.

Python's audit hooks tell of each renaming and of what goes to a server, so nothing of vggflow is replaced.
"""

import os
import signal
import sys
import time
from pathlib import Path

# The kind of write, the sign of its file while it is written, and which of them is the last thing ever done.
FILES = {
    "features": (".npy.", 1),
    "best": ("/.best-", 1),
    "checkpoint": ("/.checkpoint.npz", 2),
    "model": ("/.model.keras", 1),
    "history": ("/.history.json", 1),
    "run": ("/.run.json", 1),
}
POINTS = b'"metrics": [{'


def die() -> None:
    """Ends at once, as power failure or the kernel would end it."""
    os.kill(os.getpid(), signal.SIGKILL)


class WithinFile:
    """Dies when a file is complete but for its second half and its name."""

    def __init__(self, sign: str, count: int) -> None:
        self._sign, self._count = sign, count

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "os.rename" or self._sign not in str(arguments[0]):
            return
        self._count -= 1
        if not self._count:
            half = Path(str(arguments[0]))
            os.truncate(half, half.stat().st_size // 2)
            die()


class WithinBatch:
    """Dies while metric points are sent, or when the server has taken them and nobody has read its answer."""

    def __init__(self, *, taken: bool) -> None:
        self._taken = taken

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "http.client.send":
            return
        connection, content = arguments
        if not isinstance(content, bytes) or POINTS not in content:
            return
        connection.sock.sendall(content if self._taken else content[: len(content) // 2])
        if self._taken:
            time.sleep(2)
        die()


def hook(kind: str) -> WithinFile | WithinBatch:
    """What dies within this kind of write."""
    return WithinBatch(taken=kind == "batch taken") if kind.startswith("batch") else WithinFile(*FILES[kind])


if __name__ == "__main__":
    sys.addaudithook(hook(sys.argv.pop(1)))
    from vggflow.cli import main

    main()
