"""A team's set-up for tests: servers that can be stopped and started again, a workspace with a git remote, workers."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from tiny import draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.processes import servers
from vggflow.workspace import Workspace

SECONDS_TO_END = 15.0
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def wait(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """Waits until a condition holds; returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return found


@dataclass
class Program:
    """A program of its own session with a log, which can be killed and started again."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, number)
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_all(self) -> None:
        """As when the machine loses power: the program and all that it started, at once."""
        assert self.process is not None
        below = psutil.Process(self.process.pid).children(recursive=True)
        for each in [*below, psutil.Process(self.process.pid)]:
            each.kill()
        self.process.wait()


@dataclass
class Team:
    """Real servers, a workspace with a git remote and a DVC remote, and workers."""

    folder: Path
    prefect: Program
    mlflow: Program
    prefect_url: str
    mlflow_url: str
    extra: dict[str, str] = field(default_factory=dict)
    workers: list[Program] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "tiny"

    @property
    def temporary(self) -> Path:
        """Where workers put the folders of their runs."""
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        self.temporary.mkdir(exist_ok=True)
        return {
            **os.environ,
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_HOME": str(self.folder / "client"),
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "VGGFLOW_STATE": str(self.folder / "state"),
            "TMPDIR": str(self.temporary),
            "COLUMNS": "200",
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            **self.extra,
        }

    def vggflow(self, *arguments: str, root: Path | None = None) -> str:
        """Runs the command line; returns what it printed."""
        code, out = self.try_vggflow(*arguments, root=root)
        assert code == 0, out
        return out

    def try_vggflow(self, *arguments: str, root: Path | None = None) -> tuple[int, str]:
        command = [sys.executable, "-m", "vggflow.cli", "-C", str(root or self.root), *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=500
        )
        return done.returncode, done.stdout + done.stderr

    def start_vggflow(self, *arguments: str, log: str) -> Program:
        """Starts the command line and does not wait for it."""
        command = [sys.executable, "-m", "vggflow.cli", "-C", str(self.root), *arguments]
        program = Program(command, self.root, self.environment, self.folder / log)
        program.start()
        self.workers.append(program)
        return program

    def worker(self, name: str = "worker", *options: str, **environment: str) -> Program:
        """Starts a worker of the pool."""
        command = [
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            "vggflow",
            "--name",
            name,
            *options,
        ]
        program = Program(command, self.folder, self.environment | environment, self.folder / f"{name}.log")
        program.start()
        self.workers.append(program)
        return program

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Asks Prefect's API."""
        # On SQLite, a server whose disk is busy is silent for half a minute.
        with httpx.Client(trust_env=False, timeout=120) as client:
            for _ in range(5):  # on SQLite, a busy server may say "unavailable" when its database is locked
                answer = client.request(method, f"{self.prefect_url}/api{path}", json=content)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    break
                time.sleep(2)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def deployment(self, name: str, flow: str = "retrain") -> dict[str, Any]:
        return self.ask("GET", f"/deployments/name/{flow}/{name}@tiny")

    def request(self, name: str, flow: str = "retrain", **parameters: Any) -> str:
        """Asks for a run of a deployment, as the button in the browser does; returns its id."""
        place = f"/deployments/{self.deployment(name, flow)['id']}/create_flow_run"
        return self.ask("POST", place, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"]

    def run(self, number: str) -> dict[str, Any]:
        return self.ask("GET", f"/flow_runs/{number}")

    def runs(self, flow: str = "retrain") -> list[dict[str, Any]]:
        """All runs of a flow that were asked for or had their time, oldest first."""
        wanted = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
        found = self.ask("POST", "/flow_runs/filter", wanted)
        return [run for run in found if run["state"]["name"] != "Scheduled"]

    def ended(self, number: str, seconds: float) -> dict[str, Any]:
        """Waits for the end of a run."""

        def final() -> dict[str, Any] | None:
            run = self.run(number)
            return run if run["state"]["type"] in FINAL else None

        found: dict[str, Any] = wait(final, seconds, f"run {number} ends")
        return found

    def artifacts(self, number: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a run, by key."""
        wanted = {"flow_runs": {"id": {"any_": [number]}}, "limit": 200}
        return {each["key"]: each for each in self.ask("POST", "/artifacts/filter", wanted)}

    def experiment(self, name: str) -> str:
        """The id of an MLflow experiment."""
        place = f"{self.mlflow_url}/api/2.0/mlflow/experiments/get-by-name"
        answer = httpx.get(place, params={"experiment_name": name}, trust_env=False, timeout=30)
        return str(answer.json()["experiment"]["experiment_id"])

    def models(self) -> list[tuple[str, int, str]]:
        """Model, version and aliases."""
        rows = json.loads(self.vggflow("models", "--json"))
        return [(row["model"], row["version"], row["aliases"]) for row in rows]

    def clones(self) -> list[Path]:
        """Workspaces that lie where workers work."""
        return list(self.temporary.glob("*prefect/tiny"))


def change_params(root: Path, **sections: dict[str, Any]) -> None:
    """Writes other settings into a workspace, commits and pushes them."""
    write_params(root, **sections)
    made = Workspace(root)
    workspaces.commit(made, ["params.yaml"], "Settings")
    made.git("push", "--quiet", "--set-upstream", "origin", "HEAD")


def schedule_within(root: Path, name: str, cron: str) -> None:
    """Gives a deployment another time, as people do: in prefect.yaml; no other begins by the clock."""
    _set_schedules(root, {name: [{"cron": cron, "timezone": "UTC", "slug": "test"}]})


def _set_schedules(root: Path, wanted: dict[str, list[dict[str, str]]]) -> None:
    path = root / "prefect.yaml"
    content = yaml.safe_load(path.read_text())
    for deployment in content["deployments"]:
        deployment["schedules"] = wanted.get(deployment["name"].partition("@")[0], [])
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _without_schedules(made: Workspace) -> None:
    """Else the check at a quarter past every hour, and the nightly run, would be taken for what a test waits for."""
    _set_schedules(made.root, {})
    made.git("commit", "--quiet", "--all", "--amend", "--no-edit")


@contextmanager
def team(folder: Path, *, by_the_clock: bool = False) -> Iterator[Team]:
    """Servers on free ports, and a workspace without data; all is stopped in the end.

    Deployments have the schedules of a new workspace `by_the_clock` only.
    """
    ports = servers.free_ports(2)
    made = _workspace(folder)
    if not by_the_clock:
        _without_schedules(made)
    store = Workspace(folder / "mlflow")
    store.root.mkdir()
    prefect, mlflow = servers.prefect(ports[0]), servers.mlflow(store, ports[1])
    environment = servers.environment(store) | {"PREFECT_HOME": str(folder / "prefect")}
    found = Team(
        folder,
        Program(
            [sys.executable, "-m", *prefect.command],
            folder,
            environment | prefect.environment,
            folder / "prefect.log",
        ),
        Program([sys.executable, "-m", *mlflow.command], folder, environment, folder / "mlflow.log"),
        prefect.url,
        mlflow.url,
    )
    try:
        for program, server in ((found.prefect, prefect), (found.mlflow, mlflow)):
            program.start()
            wait(lambda url=f"{server.url}{server.health}": answers(url), 180, f"{server.name} answers")
        assert made.git("remote")
        yield found
    finally:
        for program in [*found.workers, found.mlflow, found.prefect]:
            program.stop()


@contextmanager
def one_machine(**sections: Any) -> Iterator[Path]:
    """A workspace with a relative git remote as the guide makes it, where PostgreSQL's own account can get to."""
    with tempfile.TemporaryDirectory(prefix="vggflow-one-machine-") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "tiny"
        write_params(root, **sections)
        made = workspaces.init(root)
        _without_schedules(made)
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", f"{root}.git"], check=True)
        made.git("remote", "add", "origin", "../tiny.git")
        made.git("push", "--quiet", "--set-upstream", "origin", "HEAD")
        yield root


@contextmanager
def stack_of(root: Path) -> Iterator[psutil.Process]:
    """`vggflow up`, ready inside the block and ended after it."""
    log = root / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vggflow.cli", "-C", str(root), "up"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PREFECT_WORKER_QUERY_SECONDS": "3"},
        )
    try:
        wait(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, 400, "the stack is up")
        assert process.poll() is None, log.read_text()
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(180)


def vggflow_in(root: Path, *arguments: str) -> str:
    """Runs the command line in a workspace that finds its own servers; returns what it printed."""
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(url: str) -> bool:
    """Whether a server answers."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _workspace(folder: Path) -> Workspace:
    write_params(folder / "tiny")
    made = workspaces.init(folder / "tiny")
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder / "tiny.git"], check=True)
    made.git("remote", "add", "origin", str(folder / "tiny.git"))
    draw_data(folder / "delivery")
    return made
