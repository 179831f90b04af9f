"""What breaks while a retraining runs: what people see, that the run ends or starts again, that nothing is lost.

Each test is a row of the table in docs/runbook.md.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from team import Program, Team, answers, change_params, team, wait

from vggflow import workspace as workspaces
from vggflow.processes import servers
from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SECONDS_AWAY = 60.0
EPOCHS = 150


class Receiver:
    """Where notifications go: an HTTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        received = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((servers.LOCALHOST, 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{servers.LOCALHOST}:{self.server.server_port}"

    def told(self, subject: str) -> list[dict[str, Any]]:
        return [each for each in self.got if each.get("subject", each.get("title")) == f"tiny: {subject}"]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Team]:
    """Servers, deployments, a champion; notifications go to the receiver."""
    with team(tmp_path_factory.mktemp("failures")) as made:
        made.extra["VGGFLOW_NOTIFY_URL"] = f"http://{receiver.address}/hook"
        made.vggflow("data", "import", str(made.folder / "delivery"))
        made.vggflow("deploy")
        made.vggflow("retrain")
        yield made


@pytest.fixture
def worker(running: Team) -> Iterator[Program]:
    yield running.worker(f"worker-{len(running.workers)}")
    # Also those that a test started itself, or the next test's runs would go to them.
    for made in running.workers:
        made.stop()


def _train_long(team: Team, seed: int, **phase: Any) -> str:
    """Asks for a training that takes a minute or two; returns the run's id when it is under way."""
    phases = [{"name": "all", "learning_rate": 0.002, "epochs": EPOCHS, **phase}]
    change_params(team.root, train={"phases": phases, "seed": seed})
    number = team.request("retrain-nightly")
    wait(lambda: _epochs(team), 240, "the training comes to its first epochs")
    return number


def _runs(team: Team, stage: str = "train") -> list[dict[str, Any]]:
    """MLflow's runs, newest first."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        place = f"{team.mlflow_url}/api/2.0/mlflow"
        got = client.get(f"{place}/experiments/get-by-name", params={"experiment_name": "tiny"}).json()
        asked = {
            "experiment_ids": [got["experiment"]["experiment_id"]],
            "filter": f"tags.stage = '{stage}'",
            "max_results": 100,
        }
        return list(client.post(f"{place}/runs/search", json=asked).json().get("runs", []))


def _epochs(team: Team) -> int:
    """Epochs of the training that runs now, as far as MLflow knows."""
    newest = _runs(team)[0]
    if newest["info"]["status"] != "RUNNING":
        return 0
    metrics = {each["key"]: each for each in newest["data"].get("metrics", [])}
    return int(metrics["loss"]["step"]) if "loss" in metrics else 0


def _candidates(team: Team) -> int:
    return len([1 for name, _, _ in team.models() if name == "tiny-candidates"])


def _nothing_twice(team: Team, before: int) -> None:
    """One more candidate, from one finished MLflow run that has every epoch once."""
    assert _candidates(team) == before + 1
    newest = _runs(team)[0]
    assert newest["info"]["status"] == "FINISHED"
    with httpx.Client(trust_env=False, timeout=30) as client:
        asked = {"run_id": newest["info"]["run_id"], "metric_key": "loss", "max_results": 1000}
        got = client.get(f"{team.mlflow_url}/api/2.0/mlflow/metrics/get-history", params=asked).json()
    assert sorted(int(point["step"]) for point in got["metrics"]) == list(range(1, EPOCHS + 1))


def test_the_run_of_a_killed_worker_starts_again_on_the_next_one(running: Team, worker: Program) -> None:
    before = _candidates(running)
    number = _train_long(running, 1)
    assert worker.process is not None
    worker.process.send_signal(signal.SIGKILL)
    running.worker("again")  # as whatever keeps workers running would do
    wait(lambda: running.run(number)["state"]["type"] == "COMPLETED", 900, "the run starts again and ends")
    assert running.run(number)["run_count"] == 2
    _nothing_twice(running, before)
    assert wait(lambda: not running.clones(), 30, "the killed worker's clone is removed too")


def test_a_machine_that_loses_power_is_noticed_and_another_goes_on_from_the_checkpoint(
    running: Team, worker: Program, receiver: Receiver
) -> None:
    before = _candidates(running)
    number = _train_long(running, 2)
    wait(lambda: _epochs(running) > 20, 240, "some epochs")
    worker.kill_all()
    running.worker("another")
    told = len(receiver.told("Crashed"))
    wait(lambda: len(receiver.told("Crashed")) > told, 420, "the crash is noticed")
    wait(lambda: running.run(number)["state"]["type"] == "COMPLETED", 900, "the run starts again and ends")
    assert running.run(number)["run_count"] == 2
    _nothing_twice(running, before)
    assert len(running.clones()) <= 1


def test_prefect_away_for_a_minute_is_waited_for(running: Team, worker: Program) -> None:
    before = _candidates(running)
    number = _train_long(running, 3)
    running.prefect.stop()
    time.sleep(SECONDS_AWAY)
    running.prefect.start()
    wait(lambda: answers(f"{running.prefect_url}/api/health"), 180, "Prefect answers again")
    run = running.ended(number, 600)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert run["run_count"] == 1
    _nothing_twice(running, before)


def test_mlflow_away_for_a_minute_costs_no_point_of_the_curves(running: Team, worker: Program) -> None:
    before = _candidates(running)
    number = _train_long(running, 4)
    running.mlflow.stop()
    time.sleep(SECONDS_AWAY)
    running.mlflow.start()
    wait(lambda: answers(f"{running.mlflow_url}/health"), 180, "MLflow answers again")
    run = running.ended(number, 600)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    _nothing_twice(running, before)


def test_an_unreachable_dvc_remote_is_tried_again(running: Team, worker: Program) -> None:
    before = _candidates(running)
    number = _train_long(running, 5)
    remote = running.folder / "tiny.dvc-remote"
    aside = remote.with_name("aside")
    remote.rename(aside)
    remote.write_text("not a folder")
    wait(lambda: _retries(running, number), 300, "pushing is tried again")
    time.sleep(SECONDS_AWAY)
    remote.unlink()
    aside.rename(remote)
    run = running.ended(number, 600)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    _nothing_twice(running, before)


def _retries(team: Team, number: str) -> list[dict[str, Any]]:
    tasks = team.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [number]}}})
    return [task for task in tasks if task["state"]["name"] in ("AwaitingRetry", "Retrying")]


def test_a_full_disk_at_the_checkpoint_is_named_and_the_next_run_ends_well(
    running: Team, receiver: Receiver
) -> None:
    before = _candidates(running)
    limited = running.worker("limited")
    limited.stop()
    limited.command = ["bash", "-c", 'ulimit -f 1500 && exec "$@"', "bash", *limited.command]
    limited.start()
    phases = [{"name": "all", "learning_rate": 0.002, "epochs": EPOCHS}]
    change_params(running.root, train={"phases": phases, "seed": 6})
    told = len(receiver.told("Failed"))
    run = running.ended(running.request("retrain-nightly"), 600)
    limited.stop()
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "Failed")
    checkpoints = running.folder / "state" / "checkpoints"
    assert f"no room on the disk for {checkpoints}/" in run["state"]["message"], run["state"]
    wait(lambda: len(receiver.told("Failed")) > told, 60, "the failure is told")
    assert _candidates(running) == before
    other = running.worker("unlimited")
    again = running.ended(running.request("retrain-nightly"), 400)
    other.stop()
    assert again["state"]["type"] == "COMPLETED", again["state"]
    _nothing_twice(running, before)


def test_refused_data_is_told_with_its_report(running: Team, worker: Program, receiver: Receiver) -> None:
    before = _candidates(running)
    bad = running.folder / "bad" / "train" / "red" / "notes.jpg"
    bad.parent.mkdir(parents=True)
    bad.write_text("buy milk")
    running.vggflow("data", "import", str(running.folder / "bad"))
    wait(lambda: running.runs()[-1]["parameters"].get("requested_data"), 60, "the event starts a run")
    number = running.runs()[-1]["id"]
    run = running.ended(number, 600)
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "Refused"), run["state"]
    wait(lambda: receiver.told("Refused"), 60, "the refusal is told")
    assert "notes.jpg" in str(receiver.told("Refused")[0])
    shown = running.artifacts(number)
    assert "data report" in shown["tiny-summary"]["data"]
    assert "notes.jpg" in shown["tiny-validate"]["data"]
    assert _candidates(running) == before
    _mend(running)


def _mend(team: Team) -> None:
    """Takes the file out again, as a person would."""
    here = Workspace(team.root)
    (here.root / "data/train/red/notes.jpg").unlink()
    here.dvc("add", "data")
    here.dvc("push", "data.dvc")
    workspaces.commit(here, ["data.dvc"], "Data: without the note")
    here.git("push", "--quiet", "--set-upstream", "origin", "HEAD")


def test_a_run_that_no_worker_takes_is_told_as_late(running: Team, receiver: Receiver) -> None:
    for each in running.workers:
        each.stop()
    number = running.request("check-data", "check-data")
    wait(lambda: receiver.told("Late"), 120, "lateness is told")
    running.ask("POST", f"/flow_runs/{number}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_a_promotion_is_told(receiver: Receiver) -> None:
    assert receiver.told("Promoted")


def test_apprise_takes_other_addresses(running: Team, worker: Program, receiver: Receiver) -> None:
    running.extra["VGGFLOW_NOTIFY_URL"] = f"json://{receiver.address}/apprise"
    running.vggflow("deploy")
    told = len(receiver.told("Failed"))
    change_params(running.root, train={"phases": [], "seed": 7})
    run = running.ended(running.request("retrain-nightly"), 200)
    assert run["state"]["name"] == "Failed", run["state"]
    wait(lambda: len(receiver.told("Failed")) > told, 60, "Apprise delivers")
    assert "message" in receiver.told("Failed")[-1]


def test_time_that_is_up_stops_the_stage_and_keeps_its_checkpoint(running: Team, worker: Program) -> None:
    phases = [{"name": "all", "learning_rate": 0.002, "epochs": 2000}]
    change_params(running.root, train={"phases": phases, "seed": 8})
    run = running.ended(running.request("retrain-nightly", time_limit_hours=40 / 3600), 300)
    assert (run["state"]["type"], run["state"]["name"]) == ("FAILED", "TimedOut"), run["state"]
    assert any((running.folder / "state" / "checkpoints").rglob("*"))
    assert not _trainings(running.folder)


def _trainings(folder: Path) -> str:
    done = subprocess.run(["pgrep", "-af", f"{folder}.* train$"], capture_output=True, text=True)
    return done.stdout
