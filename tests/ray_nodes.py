"""Ray nodes on this machine for tests, in a network of their own: Ray's servers bind every interface they find.

All is in one process namespace, so nothing that was started is left when its first process ends.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
PORT = 6399
# Small: tests send little, and Ray takes a third of the memory.
STORE_BYTES = "100000000"
PROGRAMS = Path(sys.executable).parent


@dataclass
class Network:
    """A network with a loopback only, which `inside` leads into."""

    inside: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *command: str, name: str, **variables: str) -> "subprocess.Popen[str]":
        """A program in the network; what it says is in files of that name."""
        files = [self.folder / f"{name}.{stream}" for stream in ("out", "err")]
        with files[0].open("w") as out, files[1].open("w") as err:
            process = subprocess.Popen(
                [*self.inside, *command],
                env=os.environ | self.variables | variables,
                stdout=out,
                stderr=err,
                text=True,
            )
        self.started.append(process)
        return process

    def run(
        self, *command: str, timeout: float = 300, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """A program in the network, to its end."""
        return subprocess.run(
            [*self.inside, *command],
            env=os.environ | self.variables | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def said(self, name: str, stream: str = "out") -> str:
        return (self.folder / f"{name}.{stream}").read_text()


@dataclass
class Cluster:
    """A head without cores, where drivers are, and nodes with one core each that do not see some folders."""

    network: Network
    hidden: Sequence[Path] = ()
    nodes: list["subprocess.Popen[str]"] = field(default_factory=list)
    started: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{PORT}"

    def add(self, *, wait: bool = True, **variables: str) -> "subprocess.Popen[str]":
        number = self.started + 2
        self.started += 1
        ray = [str(PROGRAMS / "ray"), "start", "--block", f"--address={self.address}", "--num-cpus=1"]
        ray += [f"--node-ip-address=127.0.0.{number}", f"--object-store-memory={STORE_BYTES}"]
        hide = "".join(f"mount -t tmpfs none '{folder}' && " for folder in self.hidden)
        own = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        script = f"{hide}cd / && exec {' '.join(ray)}"
        node = self.network.start(*own, "sh", "-c", script, name=f"node{number}", **variables)
        self.nodes.append(node)
        if wait:
            wait_for(self.network, f"node{number}", node)
        return node

    def kill(self, number: int) -> None:
        """A node is gone from one moment to the next, with all its processes."""
        node = self.nodes.pop(number)
        for process in psutil.Process(node.pid).children(recursive=True):
            if process.name() == "unshare":
                process.kill()
        node.kill()


def wait_for(network: Network, name: str, process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Until a node says that it runs."""
    end = time.monotonic() + seconds
    # Ray says it on stderr.
    while "Ray runtime started" not in network.said(name) + network.said(name, "err"):
        assert process.poll() is None and time.monotonic() < end, network.said(name, "err")
        time.sleep(0.1)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network of its own; skips the test where the system does not give one."""
    # `--mount-proc` is what a container without rights refuses first.
    holder = subprocess.Popen([*UNSHARE, "sleep", "3600"], stderr=subprocess.PIPE, text=True)
    made = None
    try:
        inner = _first_process(holder)
        inside = ("nsenter", f"--target={inner}", "--net", "--pid", "--mount", "--")
        made = Network(inside, {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}, folder)
        up = made.run("ip", "link", "set", "lo", "up")
        if up.returncode:
            pytest.skip(f"no network namespace of its own: {up.stderr.strip()}")
        yield made
    finally:
        holder.kill()
        holder.wait()
        # With the namespace all in it are gone, so those that lead into it end by themselves.
        for process in made.started if made else []:
            process.wait(10)


def _first_process(holder: "subprocess.Popen[str]") -> int:
    """The process that `unshare` forked, which is the namespace."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if holder.poll() is not None:
            assert holder.stderr is not None
            pytest.skip(f"no namespaces here: {holder.stderr.read().strip()}")
        for child in psutil.Process(holder.pid).children():
            if child.name() == "sleep":
                return child.pid
        time.sleep(0.05)
    pytest.skip("no namespaces here: `unshare` did not start")


@contextmanager
def cluster(folder: Path, temporary: Path, hidden: Sequence[Path] = ()) -> Iterator[Cluster]:
    """A head; nodes are added to it.

    Args:
        folder: For what the programs say.
        temporary: For Ray's sessions: a short path, as that of a socket has 107 characters at most.
        hidden: What nodes do not see.
    """
    with network(folder) as made:
        head = [str(PROGRAMS / "ray"), "start", "--block", "--head", f"--port={PORT}", "--num-cpus=0"]
        head += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
        head += [f"--object-store-memory={STORE_BYTES}", f"--temp-dir={temporary}"]
        wait_for(made, "head", made.start(*head, name="head"))
        # A session folder for each node, as on machines of their own.
        yield Cluster(made, (*hidden, temporary))
