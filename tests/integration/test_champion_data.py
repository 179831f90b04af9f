"""Whose data the gate compares with is part of the question: asked before, digested, never guessed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny import Ran

from vggflow import artifacts, files
from vggflow.commands import data, register, retrain_plan
from vggflow.commands import reference as champion_data
from vggflow.data import manifest as manifests
from vggflow.errors import VggflowError
from vggflow.tracking import connection
from vggflow.workspace import Workspace, find

Command = Callable[..., Ran]


@pytest.fixture
def here(evaluated: Path, tmp_path: Path) -> Workspace:
    """A workspace that trained and evaluated."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    return find(root)


def _away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _deps(here: Workspace) -> dict[str, str]:
    lock = yaml.safe_load((here.root / "dvc.lock").read_text())
    return {dep["path"]: dep["md5"] for dep in lock["stages"]["validate"]["deps"]}


def test_without_any_version_there_is_nothing_to_compare_with(workspace: Path) -> None:
    assert champion_data.fetch(find(workspace)) == "nothing to compare with"
    assert champion_data.read(find(workspace)) == (None, "nothing")


def test_the_newest_candidates_manifest_is_kept_and_named_by_its_digest(here: Workspace) -> None:
    version, _ = register.register(here)
    assert champion_data.fetch(here) == "compared with the newest candidate's data"
    named = files.read_json(here.path(artifacts.REFERENCE))
    assert named == {
        "of": "the newest candidate's data",
        "manifest": version.tags["manifest.digest"],
        "missing": "",
    }
    reference, _ = champion_data.read(here)
    assert reference is not None
    assert reference.equals(manifests.read(here.path(artifacts.MANIFEST)))


def test_a_candidate_that_an_earlier_version_registered_is_compared_with(here: Workspace) -> None:
    path = here.path(artifacts.MANIFEST)
    older = manifests.read(path).drop(columns=["used_bits", "doubt", "oddity"])
    path.unlink()
    older.to_parquet(path, index=False)
    register.register(here)
    assert not data.data_diff(here)
    gone = here.root / "data" / older["path"].iloc[0]
    gone.unlink()
    assert data.data_diff(here).removed == (older["path"].iloc[0],)


def test_a_server_that_does_not_answer_ends_validate(
    vggflow: Command, here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    _away(monkeypatch)
    ran = vggflow("-C", here.root, "validate")
    assert ran.code == 1
    assert "nobody can tell which data to compare with" in ran.err


@pytest.mark.slow
def test_a_plain_dvc_repro_records_no_verdict_that_was_given_without_the_server(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = find(workspace)
    with monkeypatch.context() as away:
        _away(away)
        with pytest.raises(VggflowError):
            here.dvc("repro", "validate")
    assert not (workspace / "dvc.lock").exists()
    here.dvc("repro", "validate")
    assert str(artifacts.REFERENCE) in _deps(here)


@pytest.mark.slow
def test_a_class_that_vanished_is_refused_also_where_a_verdict_was_cached_before(here: Workspace) -> None:
    here.dvc("repro", "--single-item", "reference")
    here.dvc("repro", "--single-item", "validate")
    before = _deps(here)
    register.register(here)
    here.dvc("repro", "validate")
    assert _deps(here)[str(artifacts.REFERENCE)] != before[str(artifacts.REFERENCE)]
    for split in ("train", "valid", "test"):
        shutil.copytree(here.root / f"data/{split}/red", here.root / f"data/{split}/green")
        shutil.rmtree(here.root / f"data/{split}/red")
    with pytest.raises(VggflowError):
        here.dvc("repro", "validate")
    result = json.loads(here.path(artifacts.VALIDATION_RESULT).read_text())
    assert "vanished_class" in {problem["expectation"] for problem in result["problems"]}


def test_a_manifest_that_is_gone_from_the_store_is_said_and_part_of_the_question(
    here: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    version, _ = register.register(here)
    client = connection.connect(here).client
    place = Path(client.get_run(version.run_id).info.artifact_uri.removeprefix("file://"))
    for path in place.rglob("manifest.parquet"):
        path.unlink()
    assert champion_data.fetch(here) == "nothing to compare with"
    assert "is not in the artifact store" in capfd.readouterr().err
    assert "is not in the artifact store" in files.read_json(here.path(artifacts.REFERENCE))["missing"]


@pytest.mark.slow
def test_a_new_version_to_compare_with_is_named_by_a_dry_run(here: Workspace) -> None:
    here.dvc("repro", "validate")
    register.register(here)
    steps = {step.step: step.why for step in retrain_plan.plan_retrain(here)}
    assert "another than last time" in steps["validate"]
