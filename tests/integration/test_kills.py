"""Whoever is killed while training, no training goes on, and the next run ends well."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from tiny import draw_data, write_params

from vggflow import workspace as workspaces

pytestmark = pytest.mark.slow
LONG = [{"name": "all", "learning_rate": 0.002, "epochs": 400}]
SHORT = [{"name": "all", "learning_rate": 0.002, "epochs": 1}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose training takes minutes."""
    root = tmp_path_factory.mktemp("kills") / "tiny"
    write_params(root, train={"phases": LONG})
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "--quiet", "data")
    return root


@pytest.fixture
def flow(root: Path, prefect_api: str) -> Iterator[subprocess.Popen[bytes]]:
    """A retraining that has come to its first epochs."""
    with (root / "flow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "retrain", str(root)],
            env=os.environ | {"PREFECT_API_URL": prefect_api},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        before = _epochs(root)
        _wait(lambda: _training(root) is not None and _epochs(root) > before, 180)
        yield process
        for left in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            left.kill()
        process.kill()
        process.wait()


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _processes(root: Path, words: tuple[str, ...]) -> list[psutil.Process]:
    """Processes of this workspace whose command line ends in these words."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != root:
                continue
            if tuple(process.cmdline()[-len(words) :]) == words:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _training(root: Path) -> psutil.Process | None:
    found = [p for p in _processes(root, ("train",)) if "dvc" not in p.cmdline()]
    return found[-1] if found else None


def _dvc(root: Path) -> psutil.Process:
    return _processes(root, ("--single-item", "train"))[0]


def _epochs(root: Path) -> int:
    """How many epochs the tracking database knows of."""
    database = root / ".vggflow/mlflow.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(
                connection.execute("select count(*) from metrics where key = 'val_loss'").fetchone()[0]
            )
        except sqlite3.OperationalError:  # its tables are being made
            return 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("victim", ["flow", "stage", "dvc"])
def test_no_training_is_left(
    root: Path, flow: subprocess.Popen[bytes], victim: str, number: signal.Signals
) -> None:
    training = _training(root)
    assert training is not None
    pid = {"flow": flow.pid, "stage": training.pid, "dvc": _dvc(root).pid if victim == "dvc" else 0}[victim]
    os.kill(pid, number)
    _wait(lambda: _training(root) is None, 10)


def test_the_next_run_ends_well(root: Path, prefect_api: str) -> None:
    write_params(root, train={"phases": SHORT})
    done = subprocess.run(
        [sys.executable, "-m", "flows", "retrain", str(root)],
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Promoted" in done.stdout
