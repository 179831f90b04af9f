"""A workspace that was moved or copied finds its artifacts, and writes new ones to where it is."""

import shutil
from pathlib import Path

import pytest

from vggflow import artifacts
from vggflow.tracking import connection
from vggflow.workspace import Workspace, find, init


def _track(workspace: Workspace, text: str) -> str:
    """A run with an artifact and a version of a model made from it; returns the run's id."""
    client = connection.connect(workspace).client
    experiment = connection.experiment_id(client, "tiny")
    run = str(client.create_run(experiment).info.run_id)
    client.log_text(run, text, "note.txt")
    if not client.search_registered_models():
        client.create_registered_model("tiny")
    client.create_model_version("tiny", f"{client.get_run(run).info.artifact_uri}/note.txt", run_id=run)
    return run


def _read(workspace: Workspace, run: str) -> str:
    return Path(connection.connect(workspace).client.download_artifacts(run, "note.txt")).read_text()


def _named(workspace: Workspace) -> bytes:
    return workspace.path(artifacts.MLFLOW_DATABASE).read_bytes()


def test_a_moved_workspace_finds_what_it_tracked(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _track(Workspace(workspace), "before")
    assert "moved" not in capsys.readouterr().err
    there = tmp_path / "an other place" / "pets 50%"
    there.parent.mkdir()
    workspace.rename(there)
    moved = Workspace(there)
    assert _read(moved, run) == "before"
    assert capsys.readouterr().err.count("moved or copied") == 1
    version = connection.connect(moved).client.get_model_version("tiny", "1")
    assert version.source == f"{(there / '.vggflow/mlartifacts').as_uri()}/{run}/artifacts/note.txt"
    assert _read(moved, _track(moved, "after")) == "after"
    assert not workspace.exists()
    assert capsys.readouterr().err == ""


def test_a_copy_writes_to_its_own_place(workspace: Path, tmp_path: Path) -> None:
    first = Workspace(workspace)
    run = _track(first, "of both")
    shutil.copytree(workspace, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy")
    before = sorted(workspace.rglob("note.txt"))
    new = _track(copy, "of the copy")
    assert (_read(copy, run), _read(copy, new)) == ("of both", "of the copy")
    assert sorted(workspace.rglob("note.txt")) == before
    assert _read(first, run) == "of both"


def test_the_same_place_by_another_path_stays_as_it_is(workspace: Path, tmp_path: Path) -> None:
    run = _track(Workspace(workspace), "here")
    link = tmp_path / "link"
    link.symlink_to(workspace)
    before = _named(Workspace(workspace))
    assert _read(Workspace(link), run) == "here"
    assert _named(Workspace(workspace)) == before


def test_a_database_without_its_artifacts_goes_on_using_those_that_there_are(
    workspace: Path, tmp_path: Path
) -> None:
    run = _track(Workspace(workspace), "there")
    other = Workspace(tmp_path / "other")
    other.path(artifacts.STATE).mkdir(parents=True)
    for name in (artifacts.PARAMS, artifacts.MLFLOW_DATABASE):
        shutil.copy(workspace / name, other.path(name))
    assert _read(other, run) == "there"


def test_a_dvc_remote_that_was_moved_with_the_workspace_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a" / "pets"
    init(root, "quick").dvc("push", "weights.dvc")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = find(tmp_path / "b" / "pets")
    assert moved.dvc("remote", "list").split() == ["local", str(tmp_path / "b/pets.dvc-remote"), "(default)"]
    assert "git commit .dvc/config" in capsys.readouterr().err
    shutil.rmtree(moved.root / ".dvc" / "cache")
    moved.dvc("pull", "--force", "weights.dvc")
    find(moved.root)
    assert capsys.readouterr().err == ""


def test_a_copy_is_written_to_by_a_client_that_knew_the_run_before(workspace: Path, tmp_path: Path) -> None:
    run = _track(Workspace(workspace), "of both")
    shutil.copytree(workspace, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy")
    connection.connect(copy).client.log_text(run, "of the copy", "later.txt")
    assert list(workspace.rglob("later.txt")) == []
    assert [path.read_text() for path in copy.root.rglob("later.txt")] == ["of the copy"]
