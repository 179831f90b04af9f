"""What a retraining would do, and why, without doing it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import COLOURS, Ran, draw, write_params

from vggflow.commands.retrain_plan import plan_retrain
from vggflow.errors import DataError
from vggflow.processes.locks import alone_on_devices
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


@pytest.mark.slow
def test_it_says_what_a_training_would_take_unless_one_is_under_way(
    workspace: Path, vggflow: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggflow.training import short_training

    short = vggflow("-C", workspace, "retrain", "--dry-run")
    assert (short.code, "would take" in short.out + short.err) == (0, False), "a matter of seconds"
    monkeypatch.setattr(short_training, "SHORT_SECONDS", 0)
    ran = vggflow("-C", workspace, "retrain", "--dry-run")
    assert "train would take about " in ran.out
    assert "phase head: " in ran.out
    rows = json.loads(vggflow("-C", workspace, "retrain", "--dry-run", "--json").out)
    (takes,) = [row["takes"] for row in rows if row["takes"]]
    assert takes["images"] == len(list((workspace / "data").glob("[tv]*/*/*.png"))) - len(
        list((workspace / "data/test").glob("*/*.png"))
    )
    with alone_on_devices():
        busy = vggflow("-C", workspace, "retrain", "--dry-run")
    assert (busy.code, "would take" in busy.out) == (0, False)
    assert "a training is under way on this machine" in busy.err


def test_no_estimate_is_no_reason_to_say_nothing(workspace: Path, vggflow: Callable[..., Ran]) -> None:
    params = workspace / "params.yaml"
    params.write_text(
        params.read_text().replace("freeze_through: block5_pool", "freeze_through: block9_pool")
    )
    ran = vggflow("-C", workspace, "retrain", "--dry-run")
    assert ran.code == 0
    assert "no estimate of the time: " in ran.err
    assert "block9_pool" in ran.err
    assert "promote" in ran.out


def test_without_data_there_is_nothing_to_foresee(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    write_params(root)
    with pytest.raises(DataError, match="data import"):
        plan_retrain(init(root))
