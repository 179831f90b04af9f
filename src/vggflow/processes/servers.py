"""The programs beside vggflow: flows in a process of their own, and the servers of MLflow and Prefect."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from vggflow import artifacts
from vggflow.console import say, tell
from vggflow.environment import DRIVER, tracking_uri
from vggflow.errors import UsageError, VggflowError
from vggflow.processes.stage import ending_with_parents, last_error_line
from vggflow.workspace import Workspace

# The work pool of one machine, which `vggflow up` serves.
POOL = "vggflow"
LOCALHOST = "127.0.0.1"
# Prefect's server needs about 30 s on two cores; its own limit of 20 s ends with an error.
SECONDS_TO_START = 180.0
SECONDS_TO_STOP = 10.0
SECONDS_BETWEEN_LOOKS = 1.0
ENDING = (signal.SIGTERM, signal.SIGHUP)  # a terminal that is closed sends SIGHUP


@dataclass(frozen=True)
class Server:
    """A server of the user's own: what it is called, where it answers, the Python module with its arguments, and what
    its environment holds besides."""

    name: str
    port: int
    health: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address, on this machine only."""
        return f"http://{LOCALHOST}:{self.port}"


def prefect(port: int) -> Server:
    """Prefect's API and user interface."""
    command = ("prefect", "server", "start", "--host", LOCALHOST, "--port", str(port))
    # Else its pages ask the default port, where nobody answers.
    return Server(
        "Prefect",
        port,
        "/api/health",
        command,
        {"PREFECT_SERVER_UI_API_URL": f"http://{LOCALHOST}:{port}/api"},
    )


def mlflow(workspace: Workspace, port: int) -> Server:
    """MLflow's API and user interface on what this workspace has tracked."""
    # MLflow starts four workers by default, each a process with all of it in memory; one person needs one.
    command = ("mlflow", "server", "--host", LOCALHOST, "--port", str(port), "--workers", "1")
    store = workspace.path(artifacts.MLFLOW_ARTIFACTS)
    places = ("--backend-store-uri", tracking_uri(workspace.root), "--artifacts-destination", str(store))
    return Server("MLflow", port, "/health", command + places)


def run_flow(workspace: Workspace, arguments: list[str]) -> int:
    """Runs `python -m flows …` and returns its exit code; Ctrl-C reaches it as it reaches us.

    It ends when this process is told to end, or is gone.
    """
    command = [sys.executable, "-m", "flows", *arguments]
    with ending_with_parents():
        process = subprocess.Popen(command, env=environment(workspace) | {DRIVER: str(os.getpid())})
        below: list[psutil.Process] = []
        try:
            while process.poll() is None:
                with suppress(KeyboardInterrupt):  # the flow got it too, and ends in its own time
                    below = _look(process, below)
        finally:
            if process.poll() is None:
                process.terminate()
                # Without a limit: a flow that is told to end cuts itself off after seconds.
                process.wait()
            for left in below:  # a flow that was killed leaves a server of its own
                with suppress(psutil.Error):
                    left.terminate()
    # As shells count an end by a signal.
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _look(process: "subprocess.Popen[bytes]", below: list[psutil.Process]) -> list[psutil.Process]:
    """Waits a second for a process; returns what it has started, as far as one can see."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_BETWEEN_LOOKS)
        return below
    with suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return below


def ask_flows(workspace: Workspace, verb: str, *options: str) -> dict[str, Any]:
    """What `python -m flows VERB` prints as JSON, or its error.

    Raises:
        UsageError, VggflowError: it ended with 2, or with something else that is not 0.
    """
    command = [sys.executable, "-m", "flows", verb, str(workspace.root), *options]
    done = subprocess.run(command, env=environment(workspace), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        # The last line: libraries may print before it.
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    said = last_error_line(done).removeprefix("vggflow: ")
    raise (UsageError if done.returncode == UsageError.exit_code else VggflowError)(said)


def announce(workspace: Workspace) -> None:
    """Tells the Prefect server, where one is named, that new data is pushed; one that is away learns it later."""
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        return
    try:
        ask_flows(workspace, "event")
    except VggflowError as error:
        tell(f"{address} was not told of the new data ({error}); the hourly check-data finds it")


def environment(workspace: Workspace) -> dict[str, str]:
    """Prefect's own server inside this workspace, unless `PREFECT_API_URL` names one, and less chatter."""
    defaults = {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(SECONDS_TO_START)),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # As in prefect.yaml: by default a run gives a sign of life every three minutes, and would be taken for dead.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # In memory, the default, a restarted server forgets who has a run lock: waiting runs would wait for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Queues for evaluating language models: seven processes for nothing.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if "PREFECT_API_URL" not in os.environ:
        home = workspace.path(artifacts.PREFECT_HOME)
        home.mkdir(parents=True, exist_ok=True)  # a fresh clone has no .vggflow, and Prefect makes no parents
        defaults["PREFECT_HOME"] = str(home)
    return defaults | os.environ


def show(workspace: Workspace) -> int:
    """Says where the user interfaces of MLflow and Prefect are, and serves what no server is named for until Ctrl-C."""
    ports = free_ports(2)
    tracked, api = tracking_uri(workspace.root), os.environ.get("PREFECT_API_URL")
    named = {
        "MLflow": tracked if tracked.startswith(("http://", "https://")) else None,
        "Prefect": api.removesuffix("/").removesuffix("/api") if api else None,
    }
    for name, address in named.items():
        if address:
            say(f"{name:<8} {address}")
    ours = [server for server in (mlflow(workspace, ports[0]), prefect(ports[1])) if not named[server.name]]
    if not ours:
        return 0
    with unwinding(), suppress(KeyboardInterrupt), ExitStack() as stack:
        for server in ours:
            tell(f"starting {server.name}")
            stack.enter_context(running(workspace, server))
            say(f"{server.name:<8} {server.url}")
        say("Ctrl-C stops what was started here")
        signal.pause()
    return 0


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, leave the block as `SystemExit`: what was started in it is ended."""

    def unwind(number: int, _frame: object) -> None:
        # A second signal would cut off what is ending the servers.
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def running(workspace: Workspace, server: Server) -> Iterator[Server]:
    """The server answers inside the block, and is gone after it, also when this process is killed.

    Raises:
        VggflowError: it did not answer in time, or ended at once; its log says why.
    """
    log = workspace.path(artifacts.STATE) / "log" / f"{server.name.lower()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vggflow.processes.end_with_starter", *server.command],
            cwd=workspace.path(artifacts.STATE),
            env=environment(workspace) | server.environment,
            # Never written to: the server watches for its end.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(server, process, log)
            yield server
        finally:
            _stop(process)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        # All are bound before the first is closed: else the system may give one port twice.
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return [each.getsockname()[1] for each in sockets]


def answers(url: str) -> bool:
    """Whether a server on this machine answers, and not with an error."""
    # A proxy of the environment would be asked for this machine's own port.
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(url, timeout=5):
            return True
    # An answer such as 500 is an OSError as well: not ready yet.
    except OSError:
        return False


def _wait_until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        if answers(f"{server.url}{server.health}"):
            return
        time.sleep(0.3)
    ended = f"ended with {process.returncode}" if process.poll() is not None else "does not answer"
    raise VggflowError(f"{server.name} on port {server.port} {ended}: see {log}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends the server and its workers, which share its session."""
    # SIGKILL in any case: the server may end well and leave workers in its group.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_STOP)
    if process.stdin:
        process.stdin.close()
