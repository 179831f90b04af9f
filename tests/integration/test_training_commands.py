"""What `vggflow train` says, and the range test of learning rates."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tiny import write_params

from vggflow import files, version
from vggflow.processes.stage import read_outcome
from vggflow.tracking import connection, runs
from vggflow.workspace import Workspace

PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01, "epochs": 2},
    {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.001, "epochs": 1},
]


@pytest.fixture
def validated(evaluated: Path, tmp_path: Path) -> Path:
    """A workspace whose data the gate let through, with phases whose features are cached."""
    root = tmp_path / "validated"
    shutil.copytree(evaluated, root)
    write_params(root, train={"phases": PHASES})
    return root


def results(root: Path) -> dict[str, bytes]:
    """All that DVC versions or MLflow holds."""
    places = [*(root / "model").iterdir(), *(root / "evaluation").glob("*.*"), root / ".vggflow/mlflow.db"]
    return {str(path): path.read_bytes() for path in places}


def test_the_probe_stands_beside_the_training_wherever_one_looks(validated, vggflow):
    ran = vggflow("-C", validated, "train")
    assert ran.code == 0, ran.err
    recorded = files.read_json(validated / "model/run.json")
    probe = recorded["results"]["linear_probe_val_accuracy"]
    reached = recorded["results"]["model_val_accuracy"]
    assert f"valid {reached:.1%} (no training, " in ran.out
    assert f" s: {probe:.1%})" in ran.out
    run = MlflowClient(f"sqlite:///{validated}/.vggflow/mlflow.db").get_run(recorded["run_id"])
    assert run.data.metrics["linear_probe_val_accuracy"] == probe
    assert run.data.metrics["linear_probe_seconds"] > 0
    assert run.data.params["xla"] == "off"
    outcome = read_outcome(Workspace(validated), "train")
    assert outcome is not None and outcome.facts["results"]["linear_probe_val_accuracy"] == probe


def test_the_accuracy_that_is_told_is_that_of_the_model_that_is_left(validated, vggflow):
    """Not that of the last epoch: the best one's weights are restored."""
    phases = [{"name": "all", "learning_rate": 0.05, "epochs": 6}]
    write_params(validated, train={"phases": phases})
    ran = vggflow("-C", validated, "train")
    history = json.loads((validated / "model/history.json").read_text())
    best = min(history, key=lambda row: row["val_loss"])
    assert f"6 epochs in {ran.out.split()[3]} s: valid {best['val_accuracy']:.1%}\n" in ran.out


def test_find_lr_draws_a_curve_and_changes_nothing(validated, vggflow, tmp_path):
    before = results(validated)
    picture = tmp_path / "rates.png"
    ran = vggflow("-C", validated, "train", "--find-lr", "--phase", "top", "-o", picture)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("phase top: learning_rate ")
    assert "from the start weights on" in ran.out
    assert 1e-8 < float(ran.out.split()[3]) <= 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert results(validated) == before


def test_find_lr_takes_the_first_phase_and_draws_outside_of_what_is_versioned(validated, vggflow):
    ran = vggflow("-C", validated, "train", "--find-lr")
    assert ran.out.startswith("phase head: ")
    assert (validated / ".vggflow/learning-rate-head.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--phase", "top"], "belong to --find-lr"),
        (["--find-lr", "--phase", "tpo"], "no phase tpo in params.yaml: expected one of head, top"),
        (["--find-lr", "-o", "rates.txt"], "rates.txt can't be drawn"),
    ],
)
def test_wrong_usage_is_one_line(validated, vggflow, arguments, message):
    ran = vggflow("-C", validated, "train", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_a_limit_that_is_no_number_is_one_line(validated, vggflow, monkeypatch):
    monkeypatch.setenv("VGGFLOW_FEATURES_GB", "much")
    assert vggflow("cache").err == (
        "vggflow: VGGFLOW_FEATURES_GB is 'much', expected the gigabytes that cached features may take\n"
    )


def test_without_room_for_features_pixels_or_nothing_is_kept(validated, vggflow, monkeypatch):
    monkeypatch.setenv("VGGFLOW_FEATURES_GB", "0")
    assert vggflow("-C", validated, "train").code == 0
    facts = files.read_json(validated / "model/run.json")["facts"]
    assert (facts["features.head"], facts["features.top"]) == ("none", "none")


def test_a_run_keeps_where_it_came_from_though_it_never_becomes_a_version(validated, vggflow):
    assert vggflow("-C", validated, "train").code == 0
    recorded = files.read_json(validated / "model/run.json")
    client = MlflowClient(f"sqlite:///{validated}/.vggflow/mlflow.db")
    tags = client.get_run(recorded["run_id"]).data.tags
    assert {key: tags.get(key) for key in recorded["lineage"]["tags"]} == recorded["lineage"]["tags"]
    assert tags["git.commit"]
    assert version.stamp().endswith(tags["sha256.vggflow"])
    kept = client.download_artifacts(recorded["run_id"], "trained_on/training.parquet")
    assert Path(kept).read_bytes() == (validated / "validation/training.parquet").read_bytes()


def test_a_run_that_is_made_anew_has_settings_and_origin_of_the_training(validated, vggflow):
    assert vggflow("-C", validated, "train").code == 0
    recorded = files.read_json(validated / "model/run.json")
    registry = connection.connect(Workspace(validated))
    place = connection.experiment_id(registry.client, "elsewhere")
    made = registry.client.get_run(runs.rebuild(registry.client, place, Workspace(validated), recorded))
    first = registry.client.get_run(recorded["run_id"])
    assert made.data.params == first.data.params
    assert made.data.tags["git.commit"] == first.data.tags["git.commit"]
