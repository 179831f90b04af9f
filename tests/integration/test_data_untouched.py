"""The data are the same before and after: bytes, and the times that tell of a write."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def _fingerprint(folder: Path) -> dict[str, tuple[str, int, int, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_ctime_ns,
            path.stat().st_mode,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_validate_train_and_evaluate_change_no_file_of_the_data(versioned: Path, evaluated: Path) -> None:
    def without_change(folder: Path) -> dict[str, tuple[str, int, int]]:
        return {name: (sha, written, mode) for name, (sha, written, _, mode) in _fingerprint(folder).items()}

    before = without_change(versioned / "data")
    assert len(before) == 36
    assert without_change(evaluated / "data") == before


@pytest.mark.slow
def test_dvc_driving_the_stages_changes_no_file_of_the_data(workspace: Path) -> None:
    before = _fingerprint(workspace / "data")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    dvc = shutil.which("dvc", path=environment["PATH"])
    subprocess.run([str(dvc), "repro", "--quiet"], cwd=workspace, env=environment, check=True)

    assert (workspace / "evaluation/metrics.json").exists()
    assert _fingerprint(workspace / "data") == before
