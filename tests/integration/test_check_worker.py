"""What a worker lacks is told when somebody deploys or asks `doctor`: real servers, MLflow with users, workers."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from team import Team, team

from vggflow.stack import programs
from vggflow.stack.choices import Choices, open_place
from vggflow.stack.supervisor import supervising
from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
BOTH = "workers of vggflow / cpu and vggflow / gpu"


@dataclass
class Asked:
    """A team whose MLflow knows a promoter and a trainer, and its workspace with data."""

    team: Team
    passwords: dict[str, str]

    @contextmanager
    def worker(self, who: str = "promoter", **environment: str) -> Iterator[None]:
        """A worker for both queues, logged in to MLflow as somebody, with an environment of its own."""
        program = self.team.worker(f"as-{who}", **self.login(who), **environment)
        try:
            yield
        finally:
            program.stop()

    def login(self, who: str) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": who, "MLFLOW_TRACKING_PASSWORD": self.passwords[who]}

    def deploy(self) -> dict[str, list[Any]]:
        """What `vggflow deploy` says, for programs."""
        found: dict[str, list[Any]] = json.JSONDecoder().raw_decode(self.team.vggflow("deploy", "--json"))[0]
        return found

    def rows(self) -> list[tuple[str, str, str]]:
        """Health, whose, and what was found and advised."""
        told = self.deploy()["findings"]
        return [(each["health"], each["check"], f"{each['found']}: {each['advice']}") for each in told]

    def answers(self) -> list[tuple[str, str, str]]:
        """The same, asked again where a busy machine was too slow to answer, as people would."""
        for _ in range(3):
            rows = self.rows()
            if not any(f"answer: {slow}" in told for slow in ("took", "none") for _, _, told in rows):
                break
        return rows

    def deployments(self) -> list[str]:
        """The names of the deployments that ask workers."""
        wanted = {"deployments": {"tags": {"all_": ["worker-check:tiny"]}}}
        return sorted(each["name"] for each in self.team.ask("POST", "/deployments/filter", wanted))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with team(tmp_path_factory.mktemp("asked")) as made, _mlflow_with_users(made) as passwords:
        made.extra |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": passwords["admin"]}
        made.vggflow("data", "import", str(made.folder / "delivery"))
        yield Asked(made, passwords)


@contextmanager
def _mlflow_with_users(made: Team) -> Iterator[dict[str, str]]:
    """MLflow on SQLite with a promoter and a trainer takes the place of the team's, which knows none."""
    opened = open_place(Workspace(made.root))
    place = replace(opened, choices=Choices(opened.choices.ports, None, prefect_in_postgresql=False))
    program = programs.mlflow(place)
    with supervising(place.folder) as running:
        running.start(program)
        running.wait(program)
        made.mlflow_url = place.url("mlflow")
        admin = place.passwords["mlflow_admin"]
        passwords = {name: secrets.token_urlsafe(15) for name in ("promoter", "trainer")}
        users = {role: {"role": role, "password": password} for role, password in passwords.items()}
        login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": admin}
        subprocess.run(
            [sys.executable, "-m", "vggflow.tracking.users", "-C", str(made.root), "apply", "-"],
            input=json.dumps({"users": users}),
            env=os.environ | {"MLFLOW_TRACKING_URI": made.mlflow_url} | login,
            text=True,
            check=True,
        )
        yield passwords | {"admin": admin}


def test_nobody_is_asked_where_no_worker_is(asked: Asked) -> None:
    found = asked.deploy()
    assert [f"{each['pool']} / {each['queue']}" for each in found["unserved"]] == [
        "vggflow / cpu",
        "vggflow / gpu",
    ]
    assert (found["served"], found["findings"], asked.deployments()) == ([], [], [])


def test_workers_that_reach_everything_share_a_line_and_leave_no_trace_among_the_runs(asked: Asked) -> None:
    made = asked.team
    with asked.worker():
        asked.answers()
        automations = made.ask("POST", "/automations/count")
        said = made.vggflow("deploy")
    commit = Workspace(made.root).git("rev-parse", "HEAD")[:7]
    remote = f"{made.root}.dvc-remote"
    reach = f"git (commit {commit}), the DVC remote ({remote}) and MLflow ({made.mlflow_url} as `promoter`)"
    assert f"asking {BOTH} what a run would reach" in said
    assert f"{BOTH} reach {reach}\n" in said
    assert said.count("worker of") == 0
    assert asked.deployments() == ["check-worker-vggflow:cpu@tiny", "check-worker-vggflow:gpu@tiny"]
    assert made.ask("POST", "/automations/count") == automations
    runs = made.runs("check-worker")
    assert "Checked" in {run["state"]["name"] for run in runs} <= {"Checked", "Cancelled"}
    assert not any("workspace:tiny" in run["tags"] for run in runs)
    server = json.loads(made.vggflow("status", "--json"))["server"]
    assert (server["runs"], server["queue"], server["next"]) == ([], [], [])
    # Nor do they stay for ever.
    made.vggflow("clean", "--keep", "1")
    assert len(made.runs("check-worker")) == 1


def test_a_trainer_is_told_where_retrainings_promote_and_nowhere_else(asked: Asked) -> None:
    with asked.worker("trainer"):
        rows = asked.answers()
        code, said = asked.team.try_vggflow("doctor")
    wrong = [(check, told) for health, check, told in rows if health == "wrong"]
    assert [check for check, _ in wrong] == ["worker of vggflow / gpu"]
    assert "promotion.approval is automatic: make it a promoter" in wrong[0][1]
    assert "worker of vggflow / cpu" in {check for health, check, _ in rows if health == "ok"}
    assert code == 1
    assert "MLflow's user 'trainer' has READ on the model 'tiny'" in said


def test_a_git_remote_that_only_the_worker_can_not_reach_is_named_by_what_git_says(asked: Asked) -> None:
    elsewhere = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "url./nowhere/.insteadOf",
        "GIT_CONFIG_VALUE_0": f"{asked.team.folder}/",
    }
    with asked.worker(**elsewhere):
        rows = asked.answers()
    assert [row[:2] for row in rows] == [
        ("wrong", "worker of vggflow / cpu"),
        ("wrong", "worker of vggflow / gpu"),
    ]
    assert all("'/nowhere/tiny.git'" in told and "\n" not in told for _, _, told in rows)


def test_a_dvc_remote_that_is_another_one_on_the_worker_is_named(asked: Asked) -> None:
    remote = Path(f"{asked.team.root}.dvc-remote")
    away = remote.rename(remote.with_suffix(".away"))
    try:
        with asked.worker():
            rows = asked.answers()
    finally:
        away.rename(remote)
    assert {row[0] for row in rows} == {"wrong"}
    assert all(f"DVC remote: {remote} lacks the start weights" in told for _, _, told in rows)


def test_links_that_no_browser_opens_are_a_warning(asked: Asked) -> None:
    with asked.worker(VGGFLOW_MLFLOW_URL="http://mlflow:5000"):
        rows = asked.answers()
    assert {row[0] for row in rows} == {"warning"}
    links = "links in run pages go to http://mlflow:5000, which browsers can't open: set VGGFLOW_MLFLOW_URL"
    assert all(links in told for _, _, told in rows)


def test_a_worker_that_does_not_know_the_question_is_told(asked: Asked) -> None:
    before = asked.team.folder / "before"
    (before / "flows").mkdir(parents=True)
    (before / "flows" / "__init__.py").touch()
    with asked.worker(PYTHONPATH=str(before)):
        rows = asked.answers()
    assert {row[0] for row in rows} == {"wrong"}
    assert all("its run ended as Crashed" in told and "as new as here?" in told for _, _, told in rows), rows


def test_a_worker_that_takes_nothing_is_told_and_its_run_is_taken_back(asked: Asked) -> None:
    with asked.worker():
        asked.deploy()  # now the queues know a worker, and Prefect takes a while to miss it
    before = {run["id"] for run in asked.team.runs("check-worker")}
    rows = asked.rows()
    assert [row[0] for row in rows] == ["warning", "warning"]
    assert all(
        "took no run within 30 s" in told and "`vggflow doctor` asks again" in told for *_, told in rows
    )
    new = [run for run in asked.team.runs("check-worker") if run["id"] not in before]
    assert [run["state"]["type"] for run in new] == ["CANCELLED", "CANCELLED"]


def test_a_place_that_nothing_uses_any_longer_is_asked_no_more(asked: Asked) -> None:
    path = asked.team.root / "prefect.yaml"
    before = path.read_text()
    content = yaml.safe_load(before)
    for deployment in content["deployments"]:
        deployment["work_pool"]["work_queue_name"] = "cpu"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        with asked.worker():
            rows = asked.answers()
    finally:
        path.write_text(before)
    assert [check for _, check, _ in rows] == ["worker of vggflow / cpu"]
    assert asked.deployments() == ["check-worker-vggflow:cpu@tiny"]
