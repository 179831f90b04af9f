"""`vggflow data import` ends in git and on the remotes, also when a first try did not get that far."""

import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import Ran, draw_data, write_params

from vggflow import workspace as workspaces
from vggflow.commands import data, prepare, retrain_sample
from vggflow.errors import DataError, DataRefused
from vggflow.importing.import_images import ImportOptions


def test_what_a_failed_push_left_is_pushed_by_the_next_import(
    vggflow: Callable[..., Ran], workspace: Path, tmp_path: Path
) -> None:
    here = workspaces.find(workspace)
    here.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    delivery = draw_data(tmp_path / "delivery", train=10)
    first = vggflow("-C", workspace, "data", "import", delivery)
    assert (first.code, "git push" in first.err) == (1, True), first.err
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", tmp_path / "origin.git"], check=True)
    summary, news = data.import_data(here, delivery, ImportOptions())
    assert (summary.copied, news) == (0, True)
    pushed = workspaces.Workspace(tmp_path / "origin.git").git("log", "--format=%s", "main").splitlines()
    assert pushed[0] == "Data: 4 files from delivery"
    _, news = data.import_data(here, delivery, ImportOptions())
    assert not news


def test_start_weights_come_into_git_with_the_data(workspace: Path, tmp_path: Path) -> None:
    here = workspaces.find(workspace)
    (workspace / "weights" / "mine.h5").write_bytes(b"numbers")
    data.import_data(here, draw_data(tmp_path / "delivery", train=9), ImportOptions())
    assert here.git("status", "--porcelain") == ""
    assert workspaces.status(here, "weights") == "same"


def test_an_import_without_a_network_leaves_start_weights_for_later(
    vggflow: Callable[..., Ran], workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(workspace, model={"weights": "imagenet", "width": 1.0, "builder": "keras"})
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    ran = vggflow("-C", workspace, "data", "import", draw_data(tmp_path / "delivery", train=9))
    assert ran.code == 0, ran.err
    assert "start weights are left for later" in ran.err


def test_an_empty_class_is_refused_although_dvc_does_not_see_it(workspace: Path) -> None:
    here = workspaces.find(workspace)
    (workspace / "data/train/green").mkdir()
    assert workspaces.status(here, "data") == "same"
    with pytest.raises(DataRefused, match="train/green"):
        prepare.prepare(here)


def test_missing_start_weights_are_not_taken_for_missing_images(workspace: Path) -> None:
    shutil.rmtree(workspace / "weights")
    (workspace / "weights.dvc").unlink()
    with pytest.raises(DataError, match=r"no weights/ .* `vggflow init .`"):
        prepare.prepare(workspaces.find(workspace))


def test_a_retraining_that_adds_data_says_what_is_left_to_commit(workspace: Path) -> None:
    draw_data(workspace / "data", train=9)
    (said,) = prepare.prepare(workspaces.find(workspace))
    assert "git commit data.dvc" in said


def test_a_fresh_clone_pulls_what_its_sample_is_taken_from(workspace: Path) -> None:
    here = workspaces.find(workspace)
    here.dvc("push", "data.dvc", "weights.dvc")
    for tracked in ("data", "weights"):
        shutil.rmtree(workspace / tracked)
    retrain_sample.workspace_of_sample(here, per_class=3)
    assert len(list((workspace / "data/sample/train/red").iterdir())) == 3


def test_a_sample_needs_no_start_weights(workspace: Path) -> None:
    shutil.rmtree(workspace / "weights")
    (workspace / "weights.dvc").unlink()
    made = retrain_sample.workspace_of_sample(workspaces.find(workspace), per_class=3)
    assert (made.root / "weights/README.md").is_file()
