"""The demo: the whole way on the embedded digits, as the README promises it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tiny import Ran

from vggflow import files
from vggflow.workspace import Workspace

NOWHERE = "http://127.0.0.1:9"


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "vggflow.cli", "demo", str(folder)]


# A team's servers stay out of it.
ENVIRONMENT = {"COLUMNS": "100", "MLFLOW_TRACKING_URI": NOWHERE, "PREFECT_API_URL": f"{NOWHERE}/api"}


@dataclass(frozen=True)
class Demo:
    """A demo that came to its end: its folder and what it printed."""

    folder: Path
    printed: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "digits"
    done = subprocess.run(
        _command(folder),
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Demo(folder, done.stdout + done.stderr)


@pytest.mark.slow  # three minutes that `make demo` takes beside `make test`, in CI too: a wrong end of a step ends it
def test_the_demo_goes_the_whole_way(demo: Demo) -> None:
    assert "Traceback" not in demo.printed
    assert "Refused: validate: data refused: leakage" in demo.printed
    assert "planted.png" in demo.printed
    best = {
        phase: max(
            row["val_accuracy"]
            for row in files.read_json(demo.folder / "model/history.json")
            if row["phase"] == phase
        )
        for phase in ("head", "top")
    }
    assert best["top"] > best["head"]
    champions = [
        line for line in demo.printed.splitlines() if "champion" in line and line.startswith("digits ")
    ]
    assert len(champions) == 1
    assert sorted(entry.name for entry in demo.folder.parent.iterdir()) == ["digits", "digits.dvc-remote"]


@pytest.mark.slow
def test_a_flow_never_commits(demo: Demo) -> None:
    log = Workspace(demo.folder).git("log", "--format=%s").splitlines()
    assert log == [
        "Data: 376 files from delivery",
        "Data: handwritten digits 5 to 9, start weights from 0 to 4",
        "Workspace made by vggflow, recipe digits",
    ]


@pytest.mark.slow
def test_another_retraining_has_nothing_to_do(demo: Demo) -> None:
    model = (demo.folder / "model/model.keras").stat().st_mtime_ns
    here = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(demo.folder), "retrain"]
    # With a Prefect server of its own, as there is none.
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing new" in done.stdout
    assert (demo.folder / "model/model.keras").stat().st_mtime_ns == model


def test_a_demo_leaves_the_dvc_remote_of_another_workspace_alone(
    vggflow: Callable[..., Ran], tmp_path: Path
) -> None:
    remote = tmp_path / "pets.dvc-remote"
    (remote / "files").mkdir(parents=True)
    (remote / "files" / "photo").write_text("the only copy")
    ran = vggflow("demo", tmp_path / "pets")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "pets.dvc-remote is not empty and no earlier demo's" in ran.err
    assert (remote / "files" / "photo").read_text() == "the only copy"
    assert not (tmp_path / "pets").exists()


def test_a_demo_in_a_folder_with_something_else_or_a_file_is_refused(
    vggflow: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path):
        ran = vggflow("demo", place)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
        assert "name another" in ran.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_nothing_running_and_can_be_made_anew(
    vggflow: Callable[..., Ran], tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    demo = subprocess.Popen(_command(Path()), cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    training = _wait_for_training(demo)
    below = psutil.Process(demo.pid).children(recursive=True)
    assert training in below
    demo.send_signal(number)
    assert demo.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    _, left = psutil.wait_procs(below, timeout=15)
    assert not [each.cmdline() for each in left if each.status() != psutil.STATUS_ZOMBIE]
    again = subprocess.Popen(_command(Path()), cwd=folder, stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    assert "A workspace with the handwritten digits" in again.stdout.readline() + again.stdout.readline()
    assert not (folder / "data").exists()
    again.terminate()
    again.communicate()
    assert again.returncode == 143


def _wait_for_training(demo: "subprocess.Popen[bytes]") -> psutil.Process:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and demo.poll() is None:
        for process in psutil.Process(demo.pid).children(recursive=True):
            try:
                if process.cmdline()[-1:] == ["train"] and "dvc" not in process.cmdline():
                    return process
            except psutil.Error:
                continue
        time.sleep(0.2)
    raise AssertionError("no training came")
