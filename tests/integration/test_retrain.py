"""The retrain flow against real Prefect, MLflow on SQLite and DVC with a local remote."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tiny import COLOURS, draw, draw_data, write_params

from vggflow import workspace as workspaces

# The demo goes the same way in every run of the fast tests.
pytestmark = pytest.mark.slow


def vggflow(
    folder: Path, prefect_api: str | None, *arguments: str, home: Path | None = None
) -> tuple[int, str]:
    """Runs the command line as a program of its own; returns the exit code and what it printed."""
    environment = os.environ | {"COLUMNS": "200"} | ({"PREFECT_API_URL": prefect_api} if prefect_api else {})
    if home:
        environment |= {"HOME": str(home), "VGGFLOW_STATE": str(home / "state")}
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    return done.returncode, done.stdout + done.stderr


def models(folder: Path, prefect_api: str, home: Path | None = None) -> list[dict[str, object]]:
    code, out = vggflow(folder, prefect_api, "models", "--json", home=home)
    assert code == 0, out  # what is told on stderr stands behind the JSON
    return [
        {key: value for key, value in row.items() if key != "age"}
        for row in json.loads(out[: out.rindex("]") + 1])
    ]


def last_state(prefect_api: str) -> tuple[str, str]:
    """Type and name of the state of the newest flow run."""
    order = {"sort": "START_TIME_DESC", "limit": 1}
    newest = httpx.post(f"{prefect_api}/flow_runs/filter", json=order).json()[0]["state"]
    return newest["type"], newest["name"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    """A workspace with a git remote that was retrained once."""
    folder = tmp_path_factory.mktemp("origin")
    root = folder / "tiny"
    write_params(root)
    made = workspaces.init(root)
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder / "tiny.git"], check=True)
    made.git("remote", "add", "origin", str(folder / "tiny.git"))
    delivery = draw_data(folder / "delivery")
    code, out = vggflow(root, prefect_api, "data", "import", str(delivery))
    assert code == 0, out
    code, out = vggflow(root, prefect_api, "retrain")
    assert code == 0, out
    assert "Promoted" in out
    assert "Traceback" not in out
    return root


def test_a_first_retraining_makes_a_champion_of_a_candidate(origin: Path, prefect_api: str) -> None:
    found = models(origin, prefect_api)
    assert [(row["model"], row["version"], row["aliases"]) for row in found] == [
        ("tiny", 1, "champion"),
        ("tiny-candidates", 1, "challenger"),
    ]


def test_a_second_retraining_has_nothing_to_do(origin: Path, prefect_api: str) -> None:
    before = models(origin, prefect_api)
    model = (origin / "model/model.keras").stat().st_mtime_ns
    code, out = vggflow(origin, prefect_api, "retrain")
    assert (code, last_state(prefect_api)) == (0, ("COMPLETED", "Nothing new")), out
    assert models(origin, prefect_api) == before
    assert (origin / "model/model.keras").stat().st_mtime_ns == model


def test_what_validation_finds_out_about_the_champion_makes_no_training_stale(origin: Path) -> None:
    here = workspaces.Workspace(origin)
    result = origin / "validation/result.json"
    before = result.read_text()
    result.write_text(json.dumps(json.loads(before) | {"compared_with": "another champion"}))
    assert json.loads(here.dvc("status", "--json", "train") or "{}").get("train") is None
    result.write_text(before)


def test_a_flow_never_commits(origin: Path) -> None:
    log = workspaces.Workspace(origin).git("log", "--format=%s").splitlines()
    assert log == ["Data: 36 files from delivery", "Workspace made by vggflow, recipe two-phase"]


@pytest.mark.parametrize("shared", [False, True], ids=["a registry of its own", "the team's registry"])
def test_another_machine_restores_everything_and_trains_nothing(
    origin: Path, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shared:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{origin}/.vggflow/mlflow.db")
    clone, home = tmp_path / "elsewhere", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", origin.with_name("tiny.git"), clone], check=True)
    code, out = vggflow(clone, None, "retrain", home=home)  # with a server of its own, as on a bare machine
    assert code == 0, out
    assert not (home / "state" / "checkpoints").exists()
    assert (clone / "model/model.keras").read_bytes() == (origin / "model/model.keras").read_bytes()
    assert {row["aliases"] for row in models(clone, prefect_api, home)} == {"champion", "challenger"}


def test_refused_data_fails_as_refused_and_registers_nothing(
    origin: Path, prefect_api: str, tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(origin, root)
    (root / "data/train/red/notes.jpg").write_text("buy milk")
    before = models(root, prefect_api)
    code, out = vggflow(root, prefect_api, "retrain")
    assert (code, last_state(prefect_api)) == (3, ("FAILED", "Refused")), out
    assert "train/red/notes.jpg" in out
    assert "Retry" not in out
    assert "Traceback" not in out
    assert models(root, prefect_api) == before


def test_an_equal_challenger_keeps_the_champion(origin: Path, prefect_api: str, tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(origin, root)
    draw(root / "data/train/red/new.png", COLOURS["red"], 4711)
    code, out = vggflow(root, prefect_api, "retrain")
    assert (code, last_state(prefect_api)) == (0, ("COMPLETED", "Champion kept")), out
    assert "data/ differs from data.dvc" in out
    code, out = vggflow(root, prefect_api, "promote", "--reason", "because I say so")
    assert code == 3, out
    assert "McNemar" in out


def test_unlabelled_images_train_nothing_and_make_no_candidate(
    origin: Path, prefect_api: str, tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(origin, root)
    draw(root / "data/test/unknown/1.png", COLOURS["red"], 4712)
    before, model = models(root, prefect_api), (root / "model/model.keras").stat().st_mtime_ns
    code, out = vggflow(root, prefect_api, "retrain")
    assert (code, last_state(prefect_api)) == (0, ("COMPLETED", "Champion kept")), out
    assert "is the champion already" in out
    assert "Running stage 'validate'" in out
    assert "Running stage 'train'" not in out
    assert (root / "model/model.keras").stat().st_mtime_ns == model
    assert models(root, prefect_api) == before


def test_the_sample_goes_the_whole_way_without_touching_an_alias(
    origin: Path, prefect_api: str, tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(origin, root)
    assert vggflow(root, prefect_api, "data", "sample", "--per-class", "4")[0] == 0
    before = models(root, prefect_api)
    code, out = vggflow(root, prefect_api, "retrain", "--sample")
    assert (code, last_state(prefect_api)) == (0, ("COMPLETED", "Sample passed")), out
    assert models(root, prefect_api) == before
    code, out = vggflow(root, prefect_api, "retrain")
    assert last_state(prefect_api)[1] == "Nothing new", out


def _own_remote(origin: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the workspace with a copy of its remote, and something new to learn."""
    root, remote = folder / "tiny", folder / "remote"
    shutil.copytree(origin, root)
    shutil.copytree(origin.with_name("tiny.dvc-remote"), remote)
    workspaces.Workspace(root).dvc("remote", "modify", "local", "url", str(remote))
    write_params(root, train={"seed": 8})
    return root, remote


def test_a_remote_that_takes_nothing_holds_registration_and_promotion_up(
    origin: Path, prefect_api: str, tmp_path: Path
) -> None:
    root, remote = _own_remote(origin, tmp_path)
    before = models(root, prefect_api)
    remote.rename(remote.with_name("aside"))
    remote.write_text("not a folder")
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), "retrain"]
    running = subprocess.Popen(
        command,
        env=os.environ | {"PREFECT_API_URL": prefect_api},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    said = ""
    for line in running.stdout:
        said += line
        if "Task run failed" in line or "Retr" in line:
            break
    else:
        pytest.fail(said)
    assert (
        "nothing is registered before the DVC remote has data and model: `dvc push --run-cache` failed"
        in said
    )
    assert "Not a directory" in said
    assert models(root, prefect_api) == before
    remote.unlink()
    remote.with_name("aside").rename(remote)
    said += running.communicate(timeout=300)[0]
    assert running.returncode == 0, said
    assert len(models(root, prefect_api)) > len(before)


def test_a_model_whose_weights_are_nowhere_is_not_registered_and_not_tried_again(
    origin: Path, prefect_api: str, tmp_path: Path
) -> None:
    root, remote = _own_remote(origin, tmp_path)
    before = models(root, prefect_api)
    for place in (root / ".dvc/cache", remote):
        shutil.rmtree(place)
        place.mkdir()
    began = time.monotonic()
    code, out = vggflow(root, prefect_api, "retrain")
    assert (code, last_state(prefect_api)) == (1, ("FAILED", "Failed")), out
    assert "the DVC remote lacks files of data.dvc" in out.splitlines()[-1]
    assert time.monotonic() - began < 15 + 60 + 240, "what is lost does not come back by waiting"
    assert models(root, prefect_api) == before
