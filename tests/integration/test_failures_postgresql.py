"""PostgreSQL restarts while a retraining runs on the stack of `vggflow up`: a row of the table in docs/runbook.md."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from team import one_machine, stack_of, vggflow_in, wait
from tiny import draw_data

from vggflow.stack.choices import open_place
from vggflow.workspace import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EPOCHS = 150


def _server(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vggflow_in(root, "status", "--json"))["server"]
    return found


@pytest.fixture
def root() -> Iterator[Path]:
    phases = [{"name": "all", "learning_rate": 0.002, "epochs": EPOCHS}]
    with one_machine(train={"phases": phases}) as made:
        if not open_place(find(made)).choices.prefect_in_postgresql:
            pytest.skip("no PostgreSQL here that Prefect can use (Debian's package `postgresql`)")
        yield made


@pytest.fixture
def up(root: Path) -> Iterator[psutil.Process]:
    with stack_of(root) as process:
        yield process


def test_postgresql_may_restart_while_a_retraining_runs(root: Path, up: psutil.Process) -> None:
    vggflow_in(root, "deploy")
    vggflow_in(root, "data", "import", str(draw_data(root.parent / "delivery")))
    wait(lambda: any(run["state"] == "Running" for run in _server(root)["queue"]), 120, "the run begins")
    wait(lambda: list(Path(os.environ["VGGFLOW_STATE"]).glob("checkpoints/*")), 300, "a first checkpoint")
    main = next(child for child in up.children(recursive=True) if child.name() == "postgres")
    assert os.geteuid() != 0 or main.uids().real != 0, "never as root"
    main.send_signal(signal.SIGINT)
    run = wait(lambda: next(iter(_server(root)["runs"]), None), 500, "the run ends")
    assert run["state"] == "Promoted", run
    models = json.loads(vggflow_in(root, "models", "--json"))
    assert [(row["model"], row["version"]) for row in models] == [("tiny", 1), ("tiny-candidates", 1)]
