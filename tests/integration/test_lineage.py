"""What a version says about where it came from: of its training and its evaluation, not of its registration."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny import COLOURS, draw

from vggflow import artifacts, files
from vggflow import workspace as workspaces
from vggflow.commands import evaluate, promotion_evidence, register, validate
from vggflow.errors import DataError
from vggflow.tracking import connection, finished_retrains
from vggflow.tracking.registry import model_versions
from vggflow.tracking.registry.model_versions import Version
from vggflow.workspace import Workspace, find


@pytest.fixture
def here(evaluated: Path, tmp_path: Path) -> Workspace:
    """A workspace that trained and evaluated, everything committed."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    return find(root)


def _commit(here: Workspace) -> str:
    return here.git("rev-parse", "HEAD").strip()


def _move_on(here: Workspace) -> None:
    """Other settings, other data, another commit."""
    content = yaml.safe_load((here.root / "params.yaml").read_text())
    content["train"]["seed"] = 99
    (here.root / "params.yaml").write_text(yaml.safe_dump(content))
    draw(here.root / "data/train/red/new.png", COLOURS["red"], 4711)
    here.dvc("add", "--quiet", "data")
    workspaces.commit(here, ["params.yaml", "data.dvc"], "Other settings and data")


def _lineage_file(here: Workspace, version: Version, name: str) -> str:
    folder = here.root / "downloaded"
    folder.mkdir(exist_ok=True)
    connection.connect(here)
    model_versions.download_lineage(version, folder)
    return (folder / name).read_text()


def test_a_version_names_commit_data_and_settings_of_its_training(here: Workspace) -> None:
    commit = _commit(here)
    params, data = (here.root / "params.yaml").read_text(), (here.root / "data.dvc").read_text()
    trained_on = yaml.safe_load(data)["outs"][0]
    _move_on(here)
    assert _commit(here) != commit
    version, _ = register.register(here)
    assert version.tags["git.commit"] == commit
    assert version.tags["git.dirty"] == "false"
    assert version.tags["data.hash"] == trained_on["md5"]
    assert version.tags["data.files"] == str(trained_on["nfiles"])
    assert version.tags["sha256.params"] == hashlib.sha256(params.encode()).hexdigest()
    assert version.tags["evaluation.data.hash"] == trained_on["md5"]
    assert _lineage_file(here, version, "params.yaml") == params
    assert _lineage_file(here, version, "data.dvc") == data


def test_what_was_trained_from_uncommitted_settings_stays_so_when_they_are_committed(here: Workspace) -> None:
    recorded = files.read_json(here.path(artifacts.RUN))
    recorded["lineage"]["tags"]["git.dirty"] = "true"
    files.write_json(here.path(artifacts.RUN), recorded)
    _move_on(here)
    version, _ = register.register(here)
    assert version.tags["git.dirty"] == "true"
    assert promotion_evidence._dirty_tree(version) is True


def test_a_model_of_before_is_registered_as_unknown_and_says_so(
    here: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    recorded = files.read_json(here.path(artifacts.RUN))
    del recorded["lineage"]
    files.write_json(here.path(artifacts.RUN), recorded)
    version, _ = register.register(here)
    assert "does not say what this model was trained from" in capfd.readouterr().err
    assert version.tags["lineage"] == "not recorded at the training"
    assert not {"git.commit", "git.dirty", "data.hash", "sha256.params"} & version.tags.keys()
    assert version.tags["sha256.model"] == files.sha256(here.path(artifacts.MODEL))
    assert promotion_evidence._dirty_tree(version) is None


def test_measures_of_another_model_are_not_registered(here: Workspace) -> None:
    path = here.path(artifacts.METRICS)
    path.write_text(json.dumps(files.read_json(path) | {"accuracy": 1.0}))
    with pytest.raises(DataError, match=r"the measures changed since .* `vggflow retrain`"):
        register.register(here)


@pytest.mark.slow
def test_new_test_images_leave_the_evidence_of_the_version_before_as_it_was(here: Workspace) -> None:
    first, _ = register.register(here)
    manifest, answers, measures = (
        model_versions.training_manifest(first),
        model_versions.recorded_predictions(first),
        model_versions.recorded_metrics(first),
    )
    before = _lineage_file(here, first, "data.dvc")
    for colour, rgb in COLOURS.items():
        draw(here.root / f"data/test/{colour}/new.png", rgb, 4711)
    here.dvc("add", "--quiet", "data")
    validate.validate(here)
    evaluate.evaluate(here)
    second, new = register.register(here)
    assert (new, second.run_id, second.number) == (True, first.run_id, 2)
    assert len(model_versions.training_manifest(second)) == len(manifest) + 2
    assert model_versions.training_manifest(first).equals(manifest)
    assert model_versions.recorded_predictions(first).equals(answers)
    assert model_versions.recorded_metrics(first) == measures
    assert _lineage_file(here, first, "data.dvc") == before
    assert second.tags["data.hash"] == first.tags["data.hash"]
    measured_on = second.tags["evaluation.data.hash"]
    assert measured_on not in (first.tags["data.hash"], first.tags["evaluation.data.hash"])
    assert finished_retrains.is_known(here, measured_on), "data that a candidate was only measured on"
    card = connection.connect(here).client.list_artifacts(first.run_id, first.tags[model_versions.EVIDENCE])
    assert "model_card.md" in [Path(file.path).name for file in card]


def test_a_version_of_before_is_read_from_where_its_evidence_lies(here: Workspace) -> None:
    version, _ = register.register(here)
    client = connection.connect(here).client
    client.log_artifact(version.run_id, str(here.path(artifacts.MANIFEST)), "lineage")
    client.log_artifact(version.run_id, str(here.path(artifacts.METRICS)), "evaluation")
    old = Version(
        **vars(version) | {"tags": {k: v for k, v in version.tags.items() if k != model_versions.EVIDENCE}}
    )
    assert model_versions.training_manifest(old).equals(model_versions.training_manifest(version))
    assert model_versions.recorded_metrics(old) == model_versions.recorded_metrics(version)


def test_a_retraining_is_remembered_for_the_inputs_that_it_began_with_only(here: Workspace) -> None:
    version, _ = register.register(here)
    registry, began_with = connection.connect(here), finished_retrains.inputs(here)
    _move_on(here)  # while it was under way
    finished_retrains.mark(registry, here, version, began_with)
    assert finished_retrains.find(here) is None
    finished_retrains.mark(registry, here, version, finished_retrains.inputs(here))
    found = finished_retrains.find(here)
    assert found is not None
    assert found.number == version.number


def test_data_that_a_candidate_was_trained_on_are_known_and_no_others(here: Workspace) -> None:
    version, _ = register.register(here)
    assert finished_retrains.is_known(here, version.tags["data.hash"])
    assert not finished_retrains.is_known(here, "0" * 32 + ".dir")
