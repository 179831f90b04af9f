"""The demo: the whole way on the embedded digits, as the README promises it."""

import os
import subprocess
import sys
from pathlib import Path

from vggflow import files


def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    command = [sys.executable, "-m", "vggflow.cli", "demo", str(folder)]
    done = subprocess.run(
        command, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stdout
    assert "Refused: validate: data refused: leakage" in done.stdout
    assert "planted.png" in done.stdout
    best = {
        phase: max(
            row["val_accuracy"]
            for row in files.read_json(folder / "model/history.json")
            if row["phase"] == phase
        )
        for phase in ("head", "top")
    }
    assert best["top"] > best["head"]
    champions = [
        line for line in done.stdout.splitlines() if "champion" in line and line.startswith("digits ")
    ]
    assert len(champions) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["digits", "digits.dvc-remote"]
