"""Programs that vggflow starts, ready in a few hundredths of a second: a process with their imports forks.

What starts `python -m dvc …` or another of `PROGRAMS` is given an interpreter of its own: a script that hands its
arguments, environment, folder and output to the waiting process. Everything else goes to the real interpreter. The
program is the real one in a process of its own; only its imports were done before. Where a countdown is named in the
environment, the writes of the program count like those of vggflow, and the last one ends it as the kernel would.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

CLIENT = """
import json, os, socket, sys

real, folder, *arguments = sys.argv[1:]
names = {"-m": arguments[1:2], "-c": ["-c"]}.get(arguments[0] if arguments else "")
address = os.path.join(folder, *names) if names else ""
if not os.path.exists(address):
    os.execv(real, [real, *arguments])
with socket.socket(socket.AF_UNIX) as there:
    there.connect(address)
    asked = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(there, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    there.sendall(asked)
    code = int(there.recv(16) or b"1")
sys.exit(code if code >= 0 else 128 - code)
"""


# What each program is served by: a module to import, or a function of it to call, before anybody asks.
DVC = ("dvc.cli", "dvc.cli.parser", "dvc.repo")
KERAS = ("vggflow.models.start_keras:start", "vggflow.prediction.predictor", "vggflow.evaluation.explain")
PROGRAMS = {
    "dvc": DVC,
    "vggflow.prediction.scoring": KERAS,
    "vggflow.prediction.exported_graph": KERAS,
    "vggflow.evaluation.heat": KERAS,
    "-c": ("forked_programs:import_tensorflow_alone", "pandas", "PIL.Image"),
}


def import_tensorflow_alone() -> None:
    """TensorFlow without Keras, which it would import too: code is about how that is imported."""
    sys.modules["keras"] = None  # type: ignore[assignment]  # None stands for "is not there", says Python
    import tensorflow  # noqa: F401

    del sys.modules["keras"]


@contextmanager
def interpreter(folder: Path, *programs: str) -> Iterator[str]:
    """The path of an interpreter that starts these programs fast, for as long as the block lasts."""
    client, script = folder / "client.py", folder / "python"
    client.write_text(CLIENT)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {client} {sys.executable} {folder} "$@"\n')
    script.chmod(0o755)
    # A stage that DVC runs is looked for beside the interpreter.
    (folder / "vggflow").symlink_to(Path(sys.executable).with_name("vggflow"))
    with ExitStack() as stack:
        for needed in {PROGRAMS[name] for name in programs}:
            names = [name for name in programs if PROGRAMS[name] == needed]
            stack.enter_context(_server(folder, names, needed))
        yield str(script)


@contextmanager
def _server(folder: Path, names: Sequence[str], needed: Sequence[str]) -> Iterator[None]:
    arguments = [str(folder / names[0]), ",".join(needed)]
    server = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        for name in names[1:]:
            (folder / name).symlink_to(folder / names[0])
        yield
    finally:
        server.terminate()
        server.wait()


def serve(address: str, needed: str) -> None:
    """Forks for each connection, and imports itself what a child had to import."""
    for each in needed.split(","):
        name, _, function = each.partition(":")
        module = importlib.import_module(name)
        if function:
            getattr(module, function)()
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
        _be_program(*json.loads(asked), streams, learnt_to)
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


def _be_program(
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
        code = _run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        if arguments[0] == "-m":  # code given with -c may be about what is imported when
            os.write(learnt, "\n".join(set(sys.modules) - before).encode()[:60_000])
    finally:
        os._exit(code)


def _run(arguments: list[str]) -> int:
    """Runs a module, or code, as `python -m` and `python -c` would."""
    kind, what, *rest = arguments
    sys.argv = [what, *rest]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 (of a test)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (a process of its own ends here, whatever happens)
        traceback.print_exc()
        return 1
    return 0


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
    serve(*sys.argv[1:])
