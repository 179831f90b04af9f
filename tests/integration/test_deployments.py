"""From `vggflow deploy` to a champion: real servers, a real worker, a schedule and a form."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from team import Team, schedule_within, team, wait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Servers, a workspace with data, and its deployments."""
    with team(tmp_path_factory.mktemp("deployed"), by_the_clock=True) as made:
        made.vggflow("data", "import", str(made.folder / "delivery"))
        made.vggflow("deploy")
        yield made


def test_deploy_says_what_runs_when_and_where(deployed: Team) -> None:
    found = json.loads(deployed.vggflow("deploy", "--json"))
    assert found["workspace"] == "tiny"
    assert found["place"] == str(deployed.folder / "tiny.git")
    when = {row["deployment"]: (row["when"], row["where"]) for row in found["deployments"]}
    assert when == {
        "audit@tiny": ("0 4 * * 0 Europe/Berlin", "vggflow / cpu"),
        "check-data@tiny": ("15 * * * * Europe/Berlin", "vggflow / cpu"),
        "check-drift@tiny": ("30 7 * * * Europe/Berlin", "vggflow / cpu"),
        "predict@tiny": ("by hand", "vggflow / cpu"),
        "promote@tiny": ("by hand", "vggflow / cpu"),
        "retrain-nightly@tiny": ("0 2 * * * Europe/Berlin", "vggflow / gpu"),
        "retrain-on-drift@tiny": ("by hand", "vggflow / gpu"),  # until its trigger is switched on
        "retrain-on-new-data@tiny": ("on new data", "vggflow / gpu"),
        "rollback@tiny": ("by hand", "vggflow / cpu"),
        "search@tiny": ("by hand", "vggflow / gpu"),
    }
    assert found["automations"] == ["dead @tiny", "restart @tiny", "stuck @tiny"]


def test_deploying_again_makes_nothing_twice(deployed: Team) -> None:
    before = deployed.ask("POST", "/automations/count")
    deployed.vggflow("deploy")
    assert deployed.ask("POST", "/automations/count") == before
    assert deployed.ask("POST", "/deployments/count", {}) == 10


def test_a_queue_that_no_worker_serves_is_told_wherever_one_looks(deployed: Team) -> None:
    cpu, gpu = {"pool": "vggflow", "queue": "cpu"}, {"pool": "vggflow", "queue": "gpu"}
    assert json.loads(deployed.vggflow("deploy", "--json"))["unserved"] == [cpu, gpu]
    worker = deployed.worker("of-cpu", "--work-queue", "cpu")

    def unserved() -> list[dict[str, str]]:
        return json.loads(deployed.vggflow("status", "--json"))["server"]["unserved"]

    wait(lambda: unserved() == [gpu], 60, "the worker asks for work")
    assert "no worker serves vggflow / gpu" in deployed.vggflow("status")
    said = "no worker serves vggflow / gpu, and what is due there waits for one"
    assert said in deployed.vggflow("deploy")
    # What goes on is told behind it, on stderr.
    findings, _ = json.JSONDecoder().raw_decode(deployed.try_vggflow("doctor", "--json")[1])
    found = [(each["health"], each["found"]) for each in findings if each["check"] == "Prefect's workers"]
    assert found == [("warning", "none serves vggflow / gpu: what is due there waits")]
    worker.stop()


def test_another_workspace_of_the_same_name_is_refused(deployed: Team, tmp_path: Path) -> None:
    from vggflow import workspace as workspaces

    root = tmp_path / "tiny"
    workspaces.init(root, "quick")
    code, out = deployed.try_vggflow("deploy", root=root)
    assert code == 2
    assert str(deployed.folder / "tiny.git") in out


def test_a_schedule_fires_on_a_worker_and_the_champion_changes(deployed: Team) -> None:
    at = datetime.now(UTC) + timedelta(minutes=3)  # deploying takes up to a minute on a busy machine
    schedule_within(deployed.root, "retrain-nightly", f"{at.minute} {at.hour} * * *")
    deployed.vggflow("deploy")
    # Where a quarter past the hour lay before: what waits since then would announce the data.
    for late in deployed.runs("check-data"):
        deployed.ask("DELETE", f"/flow_runs/{late['id']}")
    deployed.worker("first")
    wait(deployed.runs, 240, "the schedule fires")
    run = deployed.ended(deployed.runs()[0]["id"], 300)
    assert run["state"]["name"] == "Promoted", run["state"]
    assert run["name"].startswith("nightly · data ")
    assert run["name"].endswith(datetime.now().strftime("%Y-%m-%d"))
    assert deployed.models() == [("tiny", 1, "champion"), ("tiny-candidates", 1, "challenger")]
    assert wait(lambda: not deployed.clones(), 30, "the clone is removed")

    shown = deployed.artifacts(run["id"])
    assert {"tiny-summary", "tiny-validate", "tiny-train", "tiny-evaluate", "tiny-promote"} <= set(shown)
    summary = shown["tiny-summary"]["data"]
    assert summary.startswith("# Promoted")
    assert f"]({deployed.mlflow_url}/#/experiments/" in summary
    assert all(page in summary for page in ("MLflow run", "evaluation report", "data report", "Data Docs"))
    assert len(json.loads(shown["tiny-train"]["data"])) == 9
    assert shown["tiny-progress"]["type"] == "progress"

    status = deployed.vggflow("status")
    assert "champion    version 1" in status
    assert run["name"] in status
    assert "1 worker online" in status
    assert max(len(line) for line in status.splitlines()) <= 80


def test_the_same_again_is_nothing_new_and_pulls_no_data(deployed: Team) -> None:
    before = deployed.models()
    run = deployed.ended(deployed.request("retrain-nightly"), 120)
    assert run["state"]["name"] == "Nothing new", run["state"]
    assert deployed.models() == before
    tasks = deployed.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert tasks == []


def test_a_promotion_by_form_asks_for_a_reason_and_says_what_the_gate_found(deployed: Team) -> None:
    run = deployed.ended(deployed.request("promote", "promote", reason="to try the form", by="ann"), 120)
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Champion kept"), run["state"]
    assert "already" in run["state"]["message"]
