"""Settings edited while a stage runs: nothing of it is recorded, neither in dvc.lock nor in the run cache."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import yaml

from vggflow import artifacts
from vggflow.commands import evaluate, train, validate
from vggflow.errors import InputsChanged
from vggflow.processes.stage import read_outcome
from vggflow.workspace import Workspace, dvc_command, find

STAGES = {"validate": validate.validate, "train": train.train, "evaluate": evaluate.evaluate}
Looks = Callable[[Workspace], object]


def _scanned(here: Workspace) -> list[Path]:
    """What validate writes as soon as it has read the pictures; the expectations are asked after that."""
    return sorted((here.path(artifacts.STATE) / "scan").rglob("*"))


def _tracked(here: Workspace) -> int:
    """When MLflow was last told something; train opens its run before it learns."""
    database = here.path(artifacts.MLFLOW_DATABASE)
    return database.stat().st_mtime_ns if database.exists() else 0


def _predicted(here: Workspace) -> int:
    """When evaluate wrote its predictions; measures, figures and its page come after that."""
    return here.path(artifacts.PREDICTIONS).stat().st_mtime_ns


@pytest.mark.parametrize(
    ("stage", "looks", "section", "name"),
    [
        ("validate", _scanned, "validate", "min_contrast"),
        pytest.param("train", _tracked, "train", "seed", marks=pytest.mark.slow),
        ("evaluate", _predicted, "evaluate", "batch_size"),
    ],
)
def test_settings_edited_in_the_middle_of_a_stage_end_it(
    evaluated: Path, tmp_path: Path, stage: str, looks: Looks, section: str, name: str
) -> None:
    shutil.copytree(evaluated, tmp_path / "tiny", symlinks=True)
    here = find(tmp_path / "tiny")
    shutil.rmtree(here.path(artifacts.STATE) / "scan", ignore_errors=True)
    before = looks(here)

    def edit() -> None:
        deadline = time.monotonic() + 300
        while looks(here) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        path = here.path(artifacts.PARAMS)
        content = yaml.safe_load(path.read_text())
        content[section][name] = 99
        path.write_text(yaml.safe_dump(content))

    editing = Thread(target=edit)
    editing.start()
    with pytest.raises(
        InputsChanged, match=rf"params.yaml: {section}.{name} \w+ → 99 changed while {stage} ran"
    ):
        STAGES[stage](here)
    editing.join()


def _repro(workspace: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        dvc_command("repro", *arguments), cwd=workspace, env=find(workspace).environment()
    )


# It edits the settings as soon as the training has opened its run, so in the middle of it.
@pytest.mark.slow
def test_settings_edited_in_the_middle_fail_a_plain_dvc_repro_and_are_not_recorded(workspace: Path) -> None:
    params = workspace / "params.yaml"
    content = yaml.safe_load(params.read_text())
    content["train"] |= {"seed": 3, "phases": [{"name": "all", "learning_rate": 0.002, "epochs": 40}]}
    params.write_text(yaml.safe_dump(content))
    assert _repro(workspace, "validate").wait(300) == 0
    running = _repro(workspace, "--single-item", "train")
    deadline = time.monotonic() + 300
    database = workspace / ".vggflow" / "mlflow.db"
    before = database.stat().st_mtime if database.exists() else 0.0
    while running.poll() is None and (not database.exists() or database.stat().st_mtime == before):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    content["train"]["seed"] = 99
    params.write_text(yaml.safe_dump(content))
    assert running.wait(300) == 255
    outcome = read_outcome(find(workspace), "train")
    assert outcome is not None
    assert "train.seed 3 → 99 changed while train ran" in outcome.message
    assert (outcome.exit_code, outcome.retry) == (1, True)
    assert "train" not in yaml.safe_load((workspace / "dvc.lock").read_text())["stages"]
    kept = [path.read_text() for path in (workspace / ".dvc/cache/runs").rglob("*") if path.is_file()]
    assert not any("vggflow train" in text for text in kept)
