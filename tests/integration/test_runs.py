"""`vggflow runs`: real trainings in a real MLflow, listed and compared, also those of which little is known."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tiny import COLOURS, TINY, Ran, draw, write_params

from vggflow import workspace as workspaces
from vggflow.commands import evaluate, train, validate
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.workspace import Workspace, find

Run = Callable[..., Ran]


def _retrain(workspace: Workspace, rate: float) -> str:
    """Trains and evaluates at another learning rate; the id of the run."""
    first, second = TINY["train"]["phases"]  # type: ignore[index]
    write_params(workspace.root, train={"phases": [first | {"learning_rate": rate}, second]})
    for stage in (validate.validate, train.train, evaluate.evaluate):
        stage(workspace)
    return str(json.loads((workspace.root / "model/run.json").read_text())["run_id"])


@pytest.fixture(scope="module")
def trained(with_champion: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace with three trainings, and their ids, oldest first: the champion's, one at another rate, and that one
    again on other data. A try of a settings search lies beside them."""
    root = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(with_champion, root, symlinks=True)
    workspace = find(root)
    champion = str(json.loads((root / "model/run.json").read_text())["run_id"])
    faster = _retrain(workspace, 0.003)
    data = root / "data"
    shutil.move(data / "train/red/0.png", data / "train/blue/was-red.png")
    draw(data / "train/red/new.png", COLOURS["red"], 4711)
    (data / "test/red/0.png").unlink()
    workspace.dvc("add", "--quiet", "data")
    workspaces.commit(workspace, ["params.yaml", "data.dvc"], "Other data")
    other = _retrain(workspace, 0.003)
    client = connection.connect(workspace).client
    experiment = client.get_run(champion).info.experiment_id
    client.create_run(experiment, tags={"stage": "search-trial"}, run_name="a try")
    return root, [champion, faster, other]


@pytest.fixture
def client(trained: tuple[Path, list[str]]) -> MlflowClient:
    return connection.connect(find(trained[0])).client


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name("tiny")
    assert found is not None
    return str(found.experiment_id)


def _compared(vggflow: Run, root: Path, first: str, second: str) -> dict[str, object]:
    ran = vggflow("-C", root, "runs", "--compare", first, second, "--json")
    assert ran.code == 0, ran.err
    found: dict[str, object] = json.loads(ran.out)
    return found


def test_trainings_are_listed_newest_first_with_what_became_of_them(trained, vggflow):
    root, ids = trained
    rows = json.loads(vggflow("-C", root, "runs", "--json").out)
    assert [row["run"] for row in rows] == ids[::-1], "and no try of a search"
    newest, faster, champion = rows
    assert (champion["became"], faster["became"]) == ("champion 1", None)
    assert [uri.partition(":/")[2] for uri in champion["versions"]] == ["tiny/1", "tiny-candidates/1"]
    assert {row["status"] for row in rows} == {"finished"} and {row["epochs"] for row in rows} == {9}
    assert champion["data"] == faster["data"] != newest["data"]
    assert (champion["uncommitted"], faster["uncommitted"]) == (False, True)
    assert newest["images"] == 25 and newest["split"] == "test"
    low, high = newest["interval"]
    assert low <= newest["accuracy"] <= high
    printed = vggflow("-C", root, "runs")
    assert [line.split()[0] for line in printed.out.splitlines()] == [
        "run",
        *(each[:8] for each in ids[::-1]),
    ]
    assert f"{champion['commit'][:7]} " in printed.out and f"{faster['commit'][:7]}+ " in printed.out


def test_only_as_many_as_asked_for(trained, vggflow):
    root, ids = trained
    ran = vggflow("-C", root, "runs", "-n", 1)
    assert ids[2][:8] in ran.out and ids[1][:8] not in ran.out
    assert "-n shows more" in ran.err


def test_one_setting_that_differs_is_named_and_both_are_paired(trained, vggflow):
    root, ids = trained
    found = _compared(vggflow, root, "champion", ids[1][:10])
    assert found["a"]["run"] == ids[0] and found["b"]["run"] == ids[1]
    name = "train.phases.all.learning_rate"
    assert found["settings"]["differences"] == {name: ["0.002", "0.003"]}
    assert found["data"] == {"differences": {}, "unrecorded": [], "other_images": False}
    assert found["settings"]["unrecorded"] == found["code"]["unrecorded"] == []
    assert set(found["code"]["differences"]) <= {"git.dirty"}
    assert found["paired"]["images"] == 12 and found["paired"]["not_in_common"] == [0, 0]
    names = {
        row["name"] for row in found["measures"] if row["first"]["interval"] and row["second"]["interval"]
    }
    assert {"accuracy on valid", "accuracy on test", "log loss on test", "calibration error on test"} <= names
    assert {row["name"] for row in found["recall"]} == set(COLOURS)
    assert found["verdict"].endswith(f"; only {name} differs (0.002 → 0.003)")


def test_other_data_is_told_image_by_image(trained, vggflow):
    root, ids = trained
    found = _compared(vggflow, root, ids[1], ids[2])
    assert found["settings"]["differences"] == {}
    assert list(found["data"]["differences"])[:1] == ["data.hash"] and found["data"]["other_images"]
    images = found["images"]
    assert images["added"] == ["train/red/new.png"] and images["removed"] == ["test/red/0.png"]
    assert images["relabelled"] == [["train/red/0.png", "train/blue/was-red.png"]]
    assert found["paired"]["images"] == 11 and found["paired"]["not_in_common"] == [1, 0]
    assert found["verdict"].endswith("; settings and code are the same, data differs")
    printed = vggflow("-C", root, "runs", "--compare", ids[1], ids[2]).out
    assert "images: 1 added, 1 removed, 1 relabelled\n" in printed
    assert "images of one alone: 1 of A, 0 of B\n" in printed
    assert printed.splitlines()[-1] == found["verdict"]


def test_a_version_is_named_as_other_commands_name_it(trained, vggflow):
    root, ids = trained
    for name in ("champion", "1", "candidate:1", "challenger"):
        assert _compared(vggflow, root, name, ids[2])["a"]["run"] == ids[0]


def test_a_run_that_never_said_anything_is_listed_and_compared(trained, vggflow, client):
    root, ids = trained
    killed = client.create_run(_experiment(client), tags={"stage": "train"}).info.run_id
    client.set_terminated(killed, "KILLED")
    try:
        rows = json.loads(vggflow("-C", root, "runs", "--json").out)
        assert rows[0]["run"] == killed and rows[0]["status"] == "killed"
        assert {rows[0][name] for name in ("commit", "data", "images", "valid", "accuracy", "became")} == {
            None
        }
        assert "killed" in vggflow("-C", root, "runs").out
        found = _compared(vggflow, root, killed, ids[2])
        assert found["paired"] == {"why_not": "A: never evaluated"}
        assert found["settings"]["unrecorded"] == ["A"]
        assert vggflow("-C", root, "runs", "--compare", ids[2], killed).code == 0
    finally:
        client.delete_run(killed)


def test_a_damaged_file_is_why_two_are_not_paired(trained, vggflow, client, tmp_path):
    root, ids = trained
    copy = tmp_path / "tiny"
    shutil.copytree(root, copy, symlinks=True)
    connection.connect(find(copy))
    for path in copy.glob(f".vggflow/mlartifacts/{ids[2]}/artifacts/evaluation/predictions.parquet"):
        path.write_bytes(b"no table")
    found = _compared(vggflow, copy, ids[1], ids[2])
    assert "predictions.parquet" in found["paired"]["why_not"] and "is damaged" in found["paired"]["why_not"]
    assert {row["name"] for row in found["measures"]} >= {"accuracy on valid", "accuracy on test"}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("nonsense", "champion", "no run 'nonsense': expected the beginning of a run's id"),
        ("abcabcabc", "champion", "no training run 'abcabcabc' in experiment 'tiny'"),
        ("9", "champion", "tiny has no version 9"),
        ("candidate:9", "champion", "tiny-candidates has no version 9"),
        ("champion", "candidate:1", "champion and candidate:1 are the same run"),
    ],
)
def test_wrong_names_are_one_line(trained, vggflow, first, second, message):
    ran = vggflow("-C", trained[0], "runs", "--compare", first, second)
    assert ran.code == 2 and ran.out == ""
    assert ran.err.startswith(f"vggflow: {message}") and ran.err.count("\n") == 1
    assert "`vggflow runs`" in ran.err or "see `vggflow models`" in ran.err


def test_an_ambiguous_beginning_names_what_it_may_mean(trained, vggflow, client):
    made = []
    try:
        while not (
            twice := {
                run[0] for run in made if sum(run[0] == other[0] for other in made) > 1 and run[0] > "9"
            }
        ):
            made.append(client.create_run(_experiment(client), tags={"stage": "train"}).info.run_id)
        ran = vggflow("-C", trained[0], "runs", "--compare", min(twice), "champion")
        assert ran.code == 2
        assert f"run '{min(twice)}' is ambiguous (" in ran.err and "give more of its id" in ran.err
    finally:
        for run in made:
            client.delete_run(run)
    ran = vggflow("-C", trained[0], "runs", "--compare", made[0], "champion")
    assert ran.code == 2 and "it was deleted" in ran.err


def test_runs_that_are_no_trainings_here_are_refused_with_what_they_are(trained, vggflow, client):
    root, _ = trained
    elsewhere = client.create_run(connection.experiment_id(client, "elsewhere"), tags={"stage": "train"})
    attempt = client.search_runs([_experiment(client)], "tags.stage = 'search-trial'")[0]
    for run, message in ((elsewhere, "it is of experiment 'elsewhere'"), (attempt, "a run of search-trial")):
        ran = vggflow("-C", root, "runs", "--compare", run.info.run_id, "champion")
        assert ran.code == 2 and message in ran.err


def test_wrong_usage_is_told_and_the_same_twice_is_refused(trained, vggflow):
    root, ids = trained
    assert vggflow("-C", root, "runs", "--compare", ids[0]).code == 2
    ran = vggflow("-C", root, "runs", "--compare", ids[1], ids[1][:12])
    assert (ran.code, ran.out) == (2, "") and "are the same run" in ran.err
    ran = vggflow("-C", root, "runs", "--compare", ids[0], ids[1], "-n", "3")
    assert ran.code == 2 and "leave it out" in ran.err


def test_before_the_first_training_a_line_says_what_makes_one(workspace, vggflow):
    ran = vggflow("-C", workspace, "runs")
    assert (ran.code, ran.out) == (0, "no trainings yet: `vggflow retrain` makes the first\n")
    assert json.loads(vggflow("-C", workspace, "runs", "--json").out) == []


def test_a_server_that_is_away_is_a_failure_in_one_line(trained, vggflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{servers.free_ports(1)[0]}")
    for arguments in ([], ["--compare", "champion", "3f2a"]):
        ran = vggflow("-C", trained[0], "runs", *arguments)
        assert ran.code == 1 and ran.err.startswith("vggflow: MLflow at ") and ran.err.count("\n") == 1
