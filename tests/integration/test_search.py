"""`vggflow search`: what it says, what is in MLflow, and what `--apply` makes of params.yaml."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from tiny import write_params

from vggflow import files
from vggflow.report import card_facts
from vggflow.settings import load
from vggflow.workspace import Workspace

PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.0001, "epochs": 3},
    {"name": "top", "freeze_through": "block4_pool", "learning_rate": 0.001, "epochs": 1},
]
SPACE = {
    "train.phases.head.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"},
    "train.batch_size": [4, 8],
}


@pytest.fixture
def searched(evaluated: Path, tmp_path: Path) -> Path:
    """A workspace whose data the gate let through, with a small space."""
    root = tmp_path / "searched"
    shutil.copytree(evaluated, root)
    write_params(root, train={"phases": PHASES}, search={"space": SPACE})
    return root


def runs(root: Path) -> list:
    client = MlflowClient(f"sqlite:///{root}/.vggflow/mlflow.db")
    places = [place.experiment_id for place in client.search_experiments()]
    return [run for run in client.search_runs(places) if run.data.tags.get("stage", "").startswith("search")]


def test_a_search_says_what_is_better_and_changes_nothing(searched, vggflow):
    before = (searched / "params.yaml").read_bytes()
    models = (searched / "model/model.keras").read_bytes()
    ran = vggflow("-C", searched, "search", "--trials", 6, "--network-trials", 0)
    assert ran.code == 0, ran.err
    assert "settings as they are" in ran.out
    assert "best of 6 trials" in ran.out
    assert "linear probe" in ran.out
    assert "train.phases.head.learning_rate" in ran.out
    assert "vggflow search --apply" in ran.out
    assert (searched / "params.yaml").read_bytes() == before
    assert (searched / "model/model.keras").read_bytes() == models
    page = (searched / ".vggflow/search/report.html").read_text()
    assert "Better settings" in page
    # The diff: what was, and what would be.
    assert re.search(r"^-\s+learning_rate: 0\.0001$", page, re.MULTILINE)
    assert re.search(r"^\+\s+learning_rate: 0\.0", page, re.MULTILINE)


def test_trials_are_nested_runs_with_the_names_of_trainings_and_none_is_there_twice(searched, vggflow):
    for count in (3, 5):
        ran = vggflow("-C", searched, "search", "--trials", count, "--network-trials", 1, "--json")
        assert ran.code == 0, ran.err
        found = json.loads(ran.out)
        parents = [run for run in runs(searched) if run.data.tags["stage"] == "search"]
        trials = [run for run in runs(searched) if run.data.tags["stage"] == "search-trial"]
        assert [run.info.run_id for run in parents] == [found["run_id"]]
        assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {found["run_id"]}
        assert len(trials) == found["trials"]
        assert max(Counter(run.data.tags["vggflow.trial"] for run in trials).values()) == 1
    assert {run.info.status for run in runs(searched)} == {"FINISHED"}
    for run in trials:
        assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(run.data.metrics)
        assert "train.phases.head.learning_rate" in run.data.params
    assert parents[0].data.metrics["trials"] == found["trials"]
    assert parents[0].data.metrics["linear_probe_val_accuracy"] > 0


def test_a_run_that_was_cut_off_half_written_is_written_again(searched, vggflow):
    # A search of its own: those of other tests are kept where all tests keep their state.
    write_params(searched, train={"phases": PHASES}, search={"space": SPACE, "seed": 5})
    vggflow("-C", searched, "search", "--trials", 3, "--network-trials", 0)
    client = MlflowClient(f"sqlite:///{searched}/.vggflow/mlflow.db")
    trial = next(run for run in runs(searched) if run.data.tags["stage"] == "search-trial")
    client.update_run(trial.info.run_id, status="RUNNING")
    ran = vggflow("-C", searched, "search", "--trials", 3, "--network-trials", 0)
    assert ran.code == 0, ran.err
    again = [run for run in runs(searched) if run.data.tags["stage"] == "search-trial"]
    assert len(again) == 3
    assert trial.info.run_id not in [run.info.run_id for run in again]
    assert {run.info.status for run in again} == {"FINISHED"}


def test_settings_that_are_applied_train_to_what_their_trial_reached(searched, vggflow):
    # One phase, so that the training ends where the trial did.
    write_params(searched, train={"phases": PHASES[:1]}, search={"space": SPACE})
    path = searched / "params.yaml"
    path.write_text("# Ours.\n" + path.read_text())
    ran = vggflow("-C", searched, "search", "--trials", 6, "--apply", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert set(found["changes"]) <= set(SPACE)
    assert "train.phases.head.learning_rate" in found["changes"]
    assert path.read_text().startswith("# Ours.\n")
    settings = load(path)
    chosen = settings.search.chosen
    assert chosen is not None
    assert (chosen.trials, chosen.settings) == (found["trials"], settings.digest_of_choice())
    assert vggflow("-C", searched, "validate").code == 0
    ran = vggflow("-C", searched, "train")
    assert ran.code == 0, ran.err
    history = json.loads((searched / "model/history.json").read_text())
    best = min(history, key=lambda row: row["val_loss"])
    told = found["compared"][-1]
    assert best["val_loss"] == pytest.approx(told["loss"], abs=1e-6)
    assert best["val_accuracy"] == pytest.approx(told["accuracy"], abs=1e-6)
    assert vggflow("-C", searched, "evaluate").code == 0
    facts = card_facts.gather(Workspace(searched), settings, {})
    assert facts["chosen"]["trials"] == found["trials"]
    # Of settings that somebody changed since, the card does not say that they were chosen.
    content = yaml.safe_load(path.read_text())
    content["train"]["phases"][0]["epochs"] = 2
    files.write_text(path, yaml.safe_dump(content))
    assert card_facts.gather(Workspace(searched), load(path), {})["chosen"] == {}


def test_params_that_were_edited_meanwhile_are_left_alone(searched, vggflow, monkeypatch):
    from vggflow.search import run_search

    path, whole = searched / "params.yaml", run_search.search

    def edited(*arguments):
        found = whole(*arguments)
        path.write_text(path.read_text() + "# A line.\n")
        return found

    monkeypatch.setattr(run_search, "search", edited)
    ran = vggflow("-C", searched, "search", "--trials", 6, "--network-trials", 0, "--apply")
    assert ran.code == 2
    assert "was edited while settings were tried" in ran.err
    assert "chosen" not in path.read_text()
    assert "learning_rate: 0.0001" in path.read_text()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model.width": [1.0]}, "search.space: `model.width` can't be varied; expected some of: "),
        ({"model.dropout": {"low": 0.5, "high": 0.2}}, "low must be below high"),
        ({"model.dropout": []}, "search.space.model.dropout"),
        ({}, "search.space"),
    ],
)
def test_a_space_that_is_none_is_refused_in_one_line(searched, vggflow, space, said):
    write_params(searched, search={"space": space})
    ran = vggflow("-C", searched, "search")
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_data_that_the_gate_did_not_see_is_not_searched(searched, vggflow):
    result = files.read_json(searched / "validation/result.json")
    files.write_json(searched / "validation/result.json", result | {"verdict": "data refused"})
    ran = vggflow("-C", searched, "search")
    assert ran.code == 3
    assert "the data gate refused this data" in ran.err
