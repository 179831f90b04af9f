"""A version is trained again from what it recorded, after the workspace that made it is gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vggflow.sample import workspace as digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def vggflow(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(folder), *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=500
    )


def test_a_version_of_the_sample_is_rebuilt_byte_for_byte(tmp_path: Path) -> None:
    root = tmp_path / "first" / "digits"
    made = digits.make(root)
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", tmp_path / "digits.git"], check=True)
    made.git("remote", "add", "origin", str(tmp_path / "digits.git"))
    made.git("push", "--quiet", "origin", "HEAD")
    made.dvc("push")
    (tmp_path / "server").mkdir()
    server = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/server/mlflow.db"}
    for command in ("validate", "train", "evaluate", "register"):
        ran = vggflow(root, command, **server)
        assert ran.returncode == 0, ran.stderr
    shutil.rmtree(root)

    clone = tmp_path / "second" / "digits"
    subprocess.run(["git", "clone", "--quiet", tmp_path / "digits.git", clone], check=True)
    home = {**server, "HOME": str(tmp_path / "second"), "VGGFLOW_STATE": str(tmp_path / "second" / "state")}
    ran = vggflow(clone, "reproduce", "1", "--candidate", "--json", **home)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout[ran.stdout.index("{") :])
    assert found["identical"] is True
    assert (found["metrics"], found["packages"]) == ({}, {})
    assert not (tmp_path / "second" / "state").exists()

    clone.joinpath("params.yaml").write_text("model: {}\n")
    ran = vggflow(clone, "reproduce", "1", "--candidate", **home)
    assert ran.returncode == 2, "a broken workspace of the caller is said in one line"
    assert len(ran.stderr.strip().splitlines()) == 1
