"""What a retraining would do, and why, without doing it."""

import shutil
from pathlib import Path

import pytest
from tiny import COLOURS, draw, write_params

from vggflow.commands.retrain_plan import plan_retrain
from vggflow.errors import DataError
from vggflow.workspace import find, init


def _would(root: Path) -> dict[str, tuple[str, str]]:
    return {step.step: (step.would, step.why) for step in plan_retrain(find(root))}


def test_a_first_retraining_would_do_everything(workspace: Path) -> None:
    before = sorted(
        path for path in workspace.rglob("*") if ".vggflow" not in path.parts and ".dvc" not in path.parts
    )
    found = _would(workspace)
    assert list(found) == ["data", "validate", "train", "evaluate", "push", "register", "promote", "publish"]
    assert found["data"][0] == "up to date"
    assert [found[stage][0] for stage in ("validate", "train", "evaluate")] == ["run, or restore"] * 3
    assert "no champion yet" in found["promote"][1]
    after = sorted(
        path for path in workspace.rglob("*") if ".vggflow" not in path.parts and ".dvc" not in path.parts
    )
    assert after == before, "nothing was computed"


def test_new_images_are_the_reason_for_all_that_follows(workspace: Path) -> None:
    draw(workspace / "data/train/red/new.png", COLOURS["red"], 4711)
    found = _would(workspace)
    assert found["data"] == ("add", "data/ differs from data.dvc: it is versioned as it is now")
    assert "data" in found["validate"][1]


def test_a_clone_would_pull_its_data_first(workspace: Path) -> None:
    shutil.rmtree(workspace / "data")
    assert _would(workspace)["data"] == ("pull", "data from the DVC remote")


def test_without_data_there_is_nothing_to_foresee(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    write_params(root)
    with pytest.raises(DataError, match="data import"):
        plan_retrain(init(root))
