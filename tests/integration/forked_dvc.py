"""The real DVC, started in a few hundredths of a second: a process that has imported it forks for each command.

What starts `python -m dvc …` is given an interpreter of its own: a script that hands its arguments, environment, folder
and output to the waiting process. Everything else goes to the real interpreter. Where a countdown is named in the
environment, the writes of DVC count like those of vggflow, and the last one ends DVC as the kernel would.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT = """
import json, os, socket, sys

real, address, *arguments = sys.argv[1:]
if arguments[:2] != ["-m", "dvc"]:
    os.execv(real, [real, *arguments])
with socket.socket(socket.AF_UNIX) as there:
    there.connect(address)
    asked = json.dumps([arguments[2:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(there, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    there.sendall(asked)
    code = int(there.recv(16) or b"1")
sys.exit(code if code >= 0 else 128 - code)
"""


@contextmanager
def interpreter(folder: Path) -> Iterator[str]:
    """The path of an interpreter that starts DVC fast, for as long as the block lasts."""
    address, client, script = folder / "dvc.socket", folder / "client.py", folder / "python"
    client.write_text(CLIENT)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {client} {sys.executable} {address} "$@"\n')
    script.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, str(address)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(script)
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Forks for each connection, and imports itself what a child had to import."""
    import dvc.cli
    import dvc.cli.parser
    import dvc.repo  # noqa: F401 (the children need it)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)  # noqa: T201 (told to who started it)
        while True:
            connection, _ = listening.accept()
            with connection:
                _serve_one(connection)


def _serve_one(connection: socket.socket) -> None:
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += connection.recv(1 << 20)
    learnt_from, learnt_to = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(learnt_from)
        _be_dvc(*json.loads(asked), streams, learnt_to)
    os.close(learnt_to)
    for stream in streams:
        os.close(stream)
    with os.fdopen(learnt_from) as learnt:
        names = learnt.read().split()
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # who asked may be gone
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    for name in names:
        with contextlib.suppress(Exception):  # only speed is lost
            importlib.import_module(name)


def _be_dvc(
    arguments: list[str], folder: str, environment: dict[str, str], streams: list[int], learnt: int
) -> None:
    code, before = 1, set(sys.modules)
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if path := environment.get(COUNTDOWN):
            Countdown(Path(path)).watch()
        from dvc.cli import main

        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(learnt, "\n".join(set(sys.modules) - before).encode()[:60_000])
    finally:
        os._exit(code)


COUNTDOWN = "TEST_COUNTDOWN"
WRITES = ("os.rename", "os.remove", "os.link", "shutil.copyfile", "subprocess.Popen")


class Countdown:
    """A number in a file that processes of one step share: what brings it below zero is killed."""

    def __init__(self, path: Path) -> None:
        import mmap

        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    @classmethod
    def start(cls, path: Path, writes: int) -> "Countdown":
        path.write_bytes(writes.to_bytes(8, "big", signed=True))
        return cls(path)

    @property
    def left(self) -> int:
        return int.from_bytes(self._memory[:8], "big", signed=True)

    def watch(self) -> None:
        """From here on each write or start of a program of this process counts."""

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event not in WRITES and not (event == "open" and _writes(arguments)):
                return
            left = self.left - 1
            self._memory[:8] = left.to_bytes(8, "big", signed=True)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)


def _writes(arguments: tuple[object, ...]) -> bool:
    """Whether a file is opened for writing."""
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


if __name__ == "__main__":
    serve(sys.argv[1])
