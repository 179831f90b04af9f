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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose training takes minutes."""
    root = tmp_path_factory.mktemp("kills") / "tiny"
    write_params(root, train={"phases": LONG})
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "data")
    return root


@pytest.fixture
def command(root: Path, prefect_api: str) -> Iterator[subprocess.Popen[bytes]]:
    """A retraining, as a person starts it, that has come to its first epochs."""
    with (root / "flow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vggflow.cli", "-C", str(root), "retrain"],
            env=os.environ | {"PREFECT_API_URL": prefect_api},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        before = _epochs(root)
        _wait(lambda: _training(root) is not None and _epochs(root) > before, 180)
        yield process
        if process.poll() is None:
            process.kill()
        process.wait()
        _wait(lambda: not _started(root), 20)


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


def _started(root: Path) -> list[psutil.Process]:
    """Flows of this workspace, and stages and DVC below them."""
    found = _processes(root, ("train",)) + _processes(root, ("--single-item", "train"))
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and words[-3:] == ["flows", "retrain", str(root)]:
                found.append(process)
        except psutil.Error:
            continue
    return found


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
@pytest.mark.parametrize("victim", ["command", "flow", "stage", "dvc"])
def test_no_training_is_left(
    root: Path, command: subprocess.Popen[bytes], victim: str, number: signal.Signals
) -> None:
    training = _training(root)
    assert training is not None
    (flow,) = psutil.Process(command.pid).children()
    pid = {"command": command.pid, "flow": flow.pid, "stage": training.pid, "dvc": _dvc(root).pid}[victim]
    os.kill(pid, number)
    _wait(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, 10)
    if victim in ("command", "flow"):
        _wait(lambda: not _started(root), 10)
        expected = 128 + number if victim == "flow" or number == signal.SIGTERM else -number
        assert command.wait(20) == expected
        assert b"Traceback" not in (root / "flow.log").read_bytes()


def test_ctrl_c_ends_the_command_with_one_line(root: Path, command: subprocess.Popen[bytes]) -> None:
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    assert command.wait(30) == 130
    assert not _started(root)
    log = (root / "flow.log").read_text()
    assert "vggflow: interrupted" in log
    assert "Traceback" not in log


def test_the_next_run_goes_on_where_the_killed_ones_were_and_ends_well(root: Path, prefect_api: str) -> None:
    reached = _epochs(root)
    assert reached > 9, "each of the runs before came to an epoch"
    done = subprocess.run(
        [sys.executable, "-m", "vggflow.cli", "-C", str(root), "retrain"],
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Promoted" in done.stdout
    assert _steps(root) == [(1, LONG[0]["epochs"], LONG[0]["epochs"])], "one run, and no epoch twice"


def _steps(root: Path) -> list[tuple[int, ...]]:
    """How many runs there are with how many epochs, and with how many different ones."""
    query = (
        "select count(distinct run_uuid), count(*), count(distinct step) from metrics where key = 'val_loss'"
    )
    with closing(sqlite3.connect(f"file:{root}/.vggflow/mlflow.db?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
