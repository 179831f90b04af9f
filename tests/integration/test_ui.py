"""`vggflow ui` serves what is there, and leaves nothing running."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command line as a program, which does not outlive the test."""
    programs: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "vggflow.cli", *map(str, arguments)]
        own = os.environ | {"PYTHONUNBUFFERED": "1"}
        programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_user_interfaces_answer_and_end_with_their_command(
    workspace: Path, number: signal.Signals, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = started("-C", workspace, "ui")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    addresses = [found.group() for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line))]
    assert len(addresses) == 2, lines
    for address in addresses:
        with urllib.request.urlopen(address, timeout=30) as page:  # noqa: S310
            assert page.status == 200
    with urllib.request.urlopen(f"{addresses[1]}/ui-settings", timeout=30) as told:  # noqa: S310
        assert json.load(told)["api_url"] == f"{addresses[1]}/api", (
            "where Prefect's pages look for their data"
        )
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.send_signal(number)
    expected = {signal.SIGINT: 0, signal.SIGKILL: -signal.SIGKILL}
    assert process.wait(30) == expected.get(number, 128 + number)
    process.stdout.close()
    if number == signal.SIGKILL:
        psutil.wait_procs(below, timeout=15)
    assert not [child for child in below if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
