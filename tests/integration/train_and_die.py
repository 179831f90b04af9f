"""`vggflow …` that dies by SIGKILL half-way through a write: `python train_and_die.py KIND -C DIR train`.

Python's audit hooks tell of each renaming and of what goes to a server, so nothing of vggflow is replaced.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path

# The kind of write, the sign of its file while it is written, and which of them is the last thing ever done.
FILES = {
    "features": (r"\.npy\.", 1),
    "listing": (r"/features/\w+/\.[0-9a-f]{24}\.json\.", 1),
    "best": (r"/\.best-", 1),
    "checkpoint": (r"/\.checkpoint\.npz", 2),
    "model": (r"/\.model\.keras", 1),
    "history": (r"/\.history\.json", 1),
    "run": (r"/\.run\.json", 1),
}
# What a request holds, and whether the server takes it before the end.
REQUESTS = {
    "run opened": (b'"run_name": ', True),
    "parameters": (b'"params": [{', False),
    "batch": (b'"metrics": [{', False),
    "batch taken": (b'"metrics": [{', True),
}


def die() -> None:
    """Ends at once, as power failure or the kernel would end it."""
    os.kill(os.getpid(), signal.SIGKILL)


class WithinFile:
    """Dies when a file is complete but for its second half and its name."""

    def __init__(self, sign: str, count: int) -> None:
        self._sign, self._count = sign, count

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "os.rename" or not re.search(self._sign, str(arguments[0])):
            return
        self._count -= 1
        if not self._count:
            half = Path(str(arguments[0]))
            os.truncate(half, half.stat().st_size // 2)
            die()


class WithinRequest:
    """Dies while a request is sent, or when the server has taken it and nobody has read its answer."""

    def __init__(self, sign: bytes, taken: bool) -> None:
        self._sign, self._taken = sign, taken

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "http.client.send":
            return
        connection, content = arguments
        if not isinstance(content, bytes) or self._sign not in content:
            return
        connection.sock.sendall(content if self._taken else content[: len(content) // 2])
        if self._taken:
            time.sleep(2)
        die()


def hook(kind: str) -> WithinFile | WithinRequest:
    """What dies within this kind of write."""
    return WithinRequest(*REQUESTS[kind]) if kind in REQUESTS else WithinFile(*FILES[kind])


if __name__ == "__main__":
    sys.addaudithook(hook(sys.argv.pop(1)))
    from vggflow.cli import main

    main()
