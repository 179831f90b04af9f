"""How a stage is started and stopped."""

import time
from pathlib import Path

import pytest

from flows.stages import Frame, StageFailed, TimeIsUp, run_dvc_stage
from vggflow.workspace import Workspace, init

PIPELINE = """stages:
  validate:
    cmd: {command}
"""


def _workspace(tmp_path: Path, command: str) -> Workspace:
    made = init(tmp_path / "w", "quick")
    (made.root / "dvc.yaml").write_text(PIPELINE.format(command=command))
    return made


def test_a_stage_is_stopped_when_its_time_is_up(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, "sleep 60")
    began = time.monotonic()
    with pytest.raises(TimeIsUp, match="all the time"):
        run_dvc_stage(workspace, "validate", lambda line: None, Frame(deadline=began + 5))
    assert 5 <= time.monotonic() - began < 30


def test_a_stage_that_ends_in_time_is_left_alone(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, "echo done")
    assert (
        run_dvc_stage(workspace, "validate", lambda line: None, Frame(deadline=time.monotonic() + 60)) is None
    )


def test_a_stage_that_fails_says_what_it_said_last(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, "sh -c 'echo no such luck; exit 3'")
    with pytest.raises(StageFailed) as failed:
        run_dvc_stage(workspace, "validate", lambda line: None, Frame())
    assert (failed.value.exit_code, failed.value.retry) == (1, True)


def test_a_pipeline_that_dvc_can_not_read_is_not_tried_again(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, "true")
    (workspace.root / "dvc.yaml").write_text("stages: {validate: {cmd: x, depz: [a]}}")
    with pytest.raises(StageFailed, match=r"dvc.yaml' validation failed: mend the file") as failed:
        run_dvc_stage(workspace, "validate", lambda line: None, Frame())
    assert (failed.value.exit_code, failed.value.retry) == (2, False)
