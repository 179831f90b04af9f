"""Settings edited while a training runs: nothing of it is recorded, neither in dvc.lock nor in the run cache."""

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from vggflow.process import read_outcome
from vggflow.workspace import dvc_command, find

# It edits the settings as soon as the training has opened its run, so in the middle of it.
pytestmark = pytest.mark.slow


def _repro(workspace: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        dvc_command("repro", *arguments), cwd=workspace, env=find(workspace).environment()
    )


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
