"""`vggflow train` as a program on a tiny workspace with an MLflow server of its own, to be watched and killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from tiny import draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.commands import validate
from vggflow.training.job import VOLATILE

Points = dict[tuple[str, int], float]


class TrackingServer:
    """A real MLflow server on SQLite that can be stopped, killed and started again on the same port and store."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        store = ("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db")
        place = ("--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1")
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *place, *address],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, 120)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server and its workers."""
        os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def points(self, run_id: str) -> list[tuple[str, int, float]]:
        """All points of a run but those that are samples of the clock."""
        client = MlflowClient(self.url)
        keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("system/")]
        return [
            (key, point.step, point.value) for key in keys for point in client.get_metric_history(run_id, key)
        ]

    def runs(self) -> list[str]:
        """The ids of all runs."""
        client = MlflowClient(self.url)
        places = [place.experiment_id for place in client.search_experiments()]
        return [run.info.run_id for run in client.search_runs(places)]

    def last_step(self, run_id: str, key: str) -> int:
        """The last step that the run holds of a metric."""
        return max(
            (point.step for point in MlflowClient(self.url).get_metric_history(run_id, key)), default=0
        )

    def status(self, run_id: str) -> str:
        """Such as RUNNING or KILLED."""
        return str(MlflowClient(self.url).get_run(run_id).info.status)

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            assert self._process.poll() is None, "the server ended: see server.log"
            return False


@dataclass(frozen=True)
class Program:
    """A workspace with validated data, and where its trainings keep their state."""

    root: Path
    server: TrackingServer
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """Checkpoints and features."""
        return self.root / ".vggflow" / "state"

    def copy(self, name: str) -> "Program":
        """The same workspace in another folder, where nothing was trained yet."""
        target = self.root.with_name(name)
        shutil.copytree(self.root, target, ignore=shutil.ignore_patterns("model", "state", "train.log"))
        return Program(target, self.server, self.environment)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Starts the training, as a person would or as another command does."""
        environment = os.environ | {"VGGFLOW_STATE": str(self.state), "MLFLOW_TRACKING_URI": self.server.url}
        with (self.root / "train.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *(command or ("-m", "vggflow.cli")), "-C", str(self.root), "train"],
                env=environment | self.environment,
                stdout=log,
                stderr=log,
            )

    def checkpoint(self) -> dict[str, Any]:
        """What the checkpoint says of the progress; empty where there is none."""
        for path in self.state.glob("checkpoints/*/checkpoint.npz"):
            try:
                return dict(json.loads(np.load(path)["progress"].tobytes()))
            except FileNotFoundError:  # discarded meanwhile
                break
        return {}

    def epochs(self) -> int:
        """Epochs in the checkpoint."""
        return len(self.checkpoint().get("rows", []))

    def said(self) -> str:
        """The end of what the training printed."""
        return (self.root / "train.log").read_text()[-3000:]

    def run_id(self) -> str:
        """The run of a training that ended well."""
        return str(json.loads((self.root / "model/run.json").read_text())["run_id"])

    def result(self) -> tuple[bytes, list[Mapping[str, Any]], Points]:
        """Model, history and points, without what differs between equal trainings."""
        history = json.loads((self.root / "model/history.json").read_text())
        rows = [{key: value for key, value in row.items() if key not in VOLATILE} for row in history]
        points = self.server.points(self.run_id())
        values = {(key, step): 0.0 if key in VOLATILE else value for key, step, value in points}
        assert len(values) == len(points), "a point is there twice"
        return (self.root / "model/model.keras").read_bytes(), rows, values


def make(root: Path, server: TrackingServer, train: dict[str, Any], model: dict[str, Any]) -> Program:
    """Makes a workspace whose data the gate let through."""
    write_params(root, train=train, model=model)
    made = workspaces.init(root)
    draw_data(root / "data")
    made.dvc("add", "data")
    validate.validate(made)
    return Program(root, server)


def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.02) -> None:
    """Looks again and again, with a pause of seconds between."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not become true in {seconds} s"
        time.sleep(every)
