"""PostgreSQL restarts while a retraining runs on the stack of `vggflow up`: a row of the table in docs/runbook.md."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from team import wait
from tiny import draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.stack import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EPOCHS = 150


def _vggflow(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _server(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_vggflow(root, "status", "--json"))["server"]
    return found


@pytest.fixture
def root() -> Iterator[Path]:
    """A workspace with a git remote, where PostgreSQL's own account can get to."""
    with tempfile.TemporaryDirectory(prefix="vggflow-restart-") as folder:
        Path(folder).chmod(0o755)
        made = Path(folder) / "tiny"
        phases = [{"name": "all", "learning_rate": 0.002, "epochs": EPOCHS}]
        write_params(made, train={"phases": phases})
        here = workspaces.init(made)
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", f"{made}.git"], check=True)
        here.git("remote", "add", "origin", f"{made}.git")
        found = postgres.find(made / ".vggflow/stack")
        if found is None or not found.has_trigrams:
            pytest.skip("no PostgreSQL here that Prefect can use (Debian's package `postgresql`)")
        yield made


@pytest.fixture
def up(root: Path) -> Iterator[psutil.Process]:
    """`vggflow up`, ready."""
    log = root / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vggflow.cli", "-C", str(root), "up"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    wait(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, 400, "the stack is up")
    assert process.poll() is None, log.read_text()
    yield psutil.Process(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait(60)


def test_postgresql_may_restart_while_a_retraining_runs(root: Path, up: psutil.Process) -> None:
    _vggflow(root, "deploy")
    _vggflow(root, "data", "import", str(draw_data(root.parent / "delivery")))
    wait(lambda: any(run["state"] == "Running" for run in _server(root)["queue"]), 120, "the run begins")
    wait(lambda: list(Path(os.environ["VGGFLOW_STATE"]).glob("checkpoints/*")), 300, "a first checkpoint")
    main = next(child for child in up.children(recursive=True) if child.name() == "postgres")
    main.send_signal(signal.SIGINT)
    run = wait(lambda: next(iter(_server(root)["runs"]), None), 500, "the run ends")
    assert run["state"] == "Promoted", run
    models = json.loads(_vggflow(root, "models", "--json"))
    assert [(row["model"], row["version"]) for row in models] == [("tiny", 1), ("tiny-candidates", 1)]
