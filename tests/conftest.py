"""What all tests share: no network, no state outside the temporary folder, small real workspaces."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from forked_programs import interpreter
from tiny import Ran, draw_data, write_params

os.environ |= {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    # As vggflow sets it before the import, which is too late in programs forked from one that has TensorFlow.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Several files run at a time on two cores: threads that wait for each other took 15 % of the time.
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# What runs in the background of a script ignores Ctrl-C, and so would all programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nor does the shell of whoever runs the tests decide about addresses, widths and colours.
for name in (
    *("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "VGGFLOW_DRIVER_PID"),
    *("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
):
    os.environ.pop(name, None)


# What was imported by then is no garbage: looking for some among it took a tenth of the tests' time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["VGGFLOW_STATE"] = str(tmp_path_factory.mktemp("state"))
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.mktemp("dvc"))
    os.environ["VGGFLOW_LOCKS"] = str(tmp_path_factory.mktemp("locks"))


@pytest.fixture(autouse=True, scope="module")
def _no_worker_left() -> Iterator[None]:
    """A file whose tests leave processes at work is told here, and not by the next that counts its own."""
    yield
    left = []
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # ended: what a test that failed had started
            left.append(each.cmdline())
    assert [line for line in left if "vggflow.data.parallel" in line] == []


@pytest.fixture(autouse=True, scope="session")
def _fast_dvc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DVC, where vggflow runs it in the process of a test, is a program that need not import it first."""
    from vggflow import workspace as workspaces

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        started: list[str] = []

        def command(*arguments: str) -> list[str]:
            if not started:
                started.append(stack.enter_context(interpreter(tmp_path_factory.mktemp("python"), "dvc")))
            return [started[0], "-m", "dvc", *arguments]

        patch.setattr(workspaces, "dvc_command", command)
        yield


@pytest.fixture
def weights_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of which only shapes count: drawing the 138 million random numbers of one takes seconds."""
    import keras

    def zeros(_self: object, shape: object, dtype: object = None) -> object:
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", zeros)


@pytest.fixture
def vggflow(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs the command line in this process, as its own program would run it."""
    from vggflow import cli

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vggflow", *map(str, arguments)])
        capfd.readouterr()
        code = cli.run()
        seen = capfd.readouterr()
        return Ran(code, seen.out, seen.err)

    return run


@pytest.fixture(scope="session")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with pictures, versioned, nothing computed yet: made once, since git, DVC and MLflow take seconds."""
    from vggflow import workspace as workspaces
    from vggflow.tracking import connection

    root = tmp_path_factory.mktemp("versioned") / "tiny"
    write_params(root)
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "data")
    workspaces.commit(made, ["data.dvc"], "Data")
    connection.connect(made).client.search_registered_models()  # makes the database, empty
    return root


@pytest.fixture
def workspace(versioned: Path, tmp_path: Path) -> Path:
    """A workspace with pictures, versioned, nothing computed yet. Its DVC remote is shared with others."""
    root = tmp_path / "tiny"
    shutil.copytree(versioned, root, symlinks=True)
    return root


@pytest.fixture(scope="session")
def evaluated(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that went through validate, train and evaluate; don't change it: copy it."""
    from vggflow import workspace as workspaces
    from vggflow.commands import evaluate, train, validate

    root = tmp_path_factory.mktemp("evaluated") / "tiny"
    shutil.copytree(versioned, root, symlinks=True)
    made = workspaces.find(root)
    for stage in (validate.validate, train.train, evaluate.evaluate):
        stage(made)
    return root


@pytest.fixture(scope="session")
def _scoring_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    programs = (
        "vggflow.prediction.scoring",
        "vggflow.prediction.exported_graph",
        "vggflow.evaluation.heat",
    )
    with interpreter(tmp_path_factory.mktemp("python"), *programs) as path:
        yield path


@pytest.fixture
def fast_scoring(_scoring_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are scored and looked into by processes that need not import Keras first."""
    monkeypatch.setattr(sys, "executable", _scoring_python)
