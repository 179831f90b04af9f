"""Servers and flows as processes: they end with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SERVES = """
import sys, time
from pathlib import Path
from vggflow.processes.servers import LOCALHOST, Server, free_ports, running, unwinding
from vggflow.workspace import Workspace
port = free_ports(1)[0]
server = Server("Files", port, "/", ("http.server", "--bind", LOCALHOST, str(port)))
with unwinding(), running(Workspace(Path(sys.argv[1])), server):
    (Path(sys.argv[1]) / "answers").touch()
    time.sleep(60)
"""
# A package `flows` beside the program that starts it: it ends as the real one does, and takes a second to start.
FLOWS = """
import sys, time
from pathlib import Path
from vggflow.processes.stage import ending_with_parents
with ending_with_parents():
    (Path(sys.argv[1]) / "answers").touch()
    time.sleep(60)
"""
RETRAINS = """
import sys
from pathlib import Path
from vggflow.processes.servers import run_flow
from vggflow.workspace import Workspace
sys.exit(run_flow(Workspace(Path(sys.argv[1])), [sys.argv[1]]))
"""


def _started(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """The program, and the process that it started, which answers."""
    process = subprocess.Popen([sys.executable, "-c", program, folder], cwd=folder)
    deadline = time.monotonic() + 60
    while not (folder / "answers").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    (below,) = psutil.Process(process.pid).children()
    return process, below


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_server_ends_with_who_started_it_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    process, server = _started(SERVES, tmp_path)
    process.send_signal(number)
    assert process.wait(20) == (-number if number == signal.SIGKILL else 128 + number)
    server.wait(20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("victim", ["command", "flow"])
def test_a_flow_ends_with_its_command_and_tells_how(
    tmp_path: Path, victim: str, number: signal.Signals
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/__init__.py").touch()
    (tmp_path / "flows/__main__.py").write_text(FLOWS)
    process, flow = _started(RETRAINS, tmp_path)
    os.kill(flow.pid if victim == "flow" else process.pid, number)
    killed = (victim, number) == ("command", signal.SIGKILL)
    assert process.wait(10) == (-number if killed else 128 + number)
    flow.wait(10)
