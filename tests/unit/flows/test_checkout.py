"""What a worker does before a run begins, and what it removes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import checkout
from flows.clean import clean_shared_cache
from vggflow.errors import UsageError, VggflowError
from vggflow.workspace import Workspace, find


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = tmp_path / "now-prefect"
    run.mkdir()
    monkeypatch.chdir(run)


def _mark(folder: Path, pid: int, began: float) -> None:
    folder.mkdir()
    (folder / checkout.OWNER).write_text(json.dumps({"pid": pid, "began": began}))


def test_a_clone_is_a_workspace_with_the_machine_s_dvc_cache(workspace: Path, tmp_path: Path) -> None:
    found = checkout.bring(str(workspace), "main", "", "tiny")
    clone = tmp_path / "now-prefect" / "tiny"
    assert found == {"directory": str(clone)}
    assert Path.cwd() == clone
    assert (clone / "data.dvc").read_text() == (workspace / "data.dvc").read_text()
    assert (
        str(Path(os.environ["VGGFLOW_STATE"]) / "dvc-cache" / "tiny")
        in (clone / ".dvc/config.local").read_text()
    )


def test_what_workers_cached_goes_when_nothing_uses_it_and_nobody_is_at_work(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / "state"))
    here = find(workspace)
    cache = checkout.shared_cache("tiny")
    here.dvc("push", "data.dvc", "weights.dvc")
    checkout.bring(str(workspace), "main", "", "tiny")
    clone = Workspace(Path.cwd())
    clone.dvc("pull", "data.dvc", "weights.dvc")
    used = set(_cached(cache))
    (clone.root / "data" / "train" / "red" / "other.png").write_bytes(b"of another commit")
    clone.dvc("add", "data")
    assert b"of another commit" in _cached(cache).values()
    assert clean_shared_cache(here, "tiny", dry_run=False)["cached_files"] == 0, "a run is at work"
    (clone.root.parent / checkout.OWNER).unlink()
    assert clean_shared_cache(here, "tiny", dry_run=True)["cached_files"] == 0
    freed = clean_shared_cache(here, "tiny", dry_run=False)
    assert freed["cached_bytes"] > len(b"of another commit")
    assert set(_cached(cache)) == used
    assert "DVC_SYSTEM_CONFIG_DIR" not in os.environ


def _cached(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_a_workspace_without_a_remote_is_worked_on_in_its_folder(workspace: Path) -> None:
    assert checkout.bring("", "", str(workspace), "tiny") == {"directory": str(workspace)}
    assert Path.cwd() == workspace


def test_a_folder_that_is_on_another_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="git remote"):
        checkout.bring("", "", str(tmp_path / "elsewhere"), "tiny")


def test_a_clone_that_would_take_its_registry_with_it_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI"):
        checkout.bring(str(workspace), "main", "", "tiny")


def test_a_remote_that_does_not_answer_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "SECONDS_BETWEEN_TRIES", (0.2, 0.2))
    began = time.monotonic()
    with pytest.raises(VggflowError, match="nowhere"):
        checkout.bring(str(tmp_path / "nowhere.git"), "", "", "tiny")
    assert time.monotonic() - began > 0.4


def test_who_waits_for_the_answer_asks_git_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(VggflowError, match="nowhere"):
        checkout.bring_at_once(str(tmp_path / "nowhere.git"), "", "", "tiny")
    assert time.monotonic() - began < checkout.SECONDS_BETWEEN_TRIES[0]


def test_what_a_dead_run_left_is_removed_and_a_living_one_stays(tmp_path: Path) -> None:
    import psutil

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    _mark(tmp_path / "living-prefect", process.pid, psutil.Process(process.pid).create_time())
    _mark(tmp_path / "namesake-prefect", process.pid, 12345.0)  # a later process got the same number
    _mark(tmp_path / "other-folder", 999_999_999, 1.0)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    _mark(tmp_path / "dead-prefect", dead.pid, 1.0)
    checkout.remove_left_behind()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["living-prefect", "now-prefect", "other-folder"]
    process.communicate(b"\n")
