"""Photographs: from a folder of cats and dogs to a champion and a submission, as somebody would who has no network."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 50
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def photographs() -> Path:
    """The folder `{train,valid,test}/<class>/` that `VGGFLOW_PHOTOS` names."""
    given = os.environ.get("VGGFLOW_PHOTOS")
    if not given:
        pytest.skip("VGGFLOW_PHOTOS is not set")
    return Path(given)


def _vggflow(root: Path, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "vggflow.cli", *(["-C", root] if root.exists() else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _unlabelled(photographs: Path, folder: Path) -> list[str]:
    """Fifty photographs named by number, without their labels; returns the numbers as a submission orders them."""
    beside = photographs.parent / "unlabelled"
    found = sorted((beside if beside.is_dir() else photographs / "test").rglob("*.jpg"))[:ROWS]
    folder.mkdir(parents=True)
    for number, photograph in enumerate(found, start=1):
        shutil.copyfile(photograph, folder / f"{number}.jpg")
    return [str(number) for number in range(1, len(found) + 1)]


def test_photographs_become_a_champion_and_a_submission(photographs: Path, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    _vggflow(root, "init", root, "--recipe", "quick")
    _vggflow(root, "data", "import", photographs)
    numbers = _unlabelled(photographs, tmp_path / "unknown")
    assert len(numbers) == ROWS
    assert "Promoted" in _vggflow(root, "retrain")
    said = _vggflow(root, "submit", tmp_path / "unknown", "-o", tmp_path / "submission.csv")
    assert f"{ROWS} rows" in said
    with (tmp_path / "submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == numbers
    assert all(0 <= float(row["label"]) <= 1 for row in rows)
    assert len({row["label"] for row in rows}) > 1


def test_photographs_as_files_and_as_shards_give_the_same_manifest_and_the_same_model(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole flow, DVC included; nothing that one computed is kept for the other."""
    outcomes = []
    for number, options in enumerate(([], ["--shards", "--shard-mb", "5"])):
        root = tmp_path / f"pets-{number}" / "pets"
        monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / f"state-{number}"))
        root.parent.mkdir()
        _vggflow(root, "init", root, "--recipe", "quick")
        _vggflow(root, "data", "import", photographs, *options)
        assert "Promoted" in _vggflow(root, "retrain")
        packed = not list((root / "data").rglob("*.jpg"))
        assert packed == bool(options)
        names = (
            "validation/manifest.json",
            "validation/training.json",
            "model/model.keras",
            "evaluation/metrics.json",
        )
        outcomes.append([(root / name).read_bytes() for name in names])
        listing = _vggflow(root, "data", "diff", "--json")
        assert '"added": []' in listing
    assert outcomes[0] == outcomes[1]
