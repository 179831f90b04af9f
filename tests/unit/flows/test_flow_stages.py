"""How a stage is started and stopped."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.dvc_stage import StageFailed, StageLimits, TimeIsUp, run_dvc_stage
from vggflow.workspace import Workspace, init

PIPELINE = """stages:
  validate:
    cmd: {command}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new workspace; copy it."""
    return init(tmp_path_factory.mktemp("made") / "w", "quick").root


Running = Callable[[str], Workspace]


@pytest.fixture
def running(made: Path, tmp_path: Path) -> Running:
    """Makes a workspace whose stage runs a command."""

    def make(command: str) -> Workspace:
        root = shutil.copytree(made, tmp_path / "w", symlinks=True)
        (root / "dvc.yaml").write_text(PIPELINE.format(command=command))
        return Workspace(root)

    return make


def test_a_stage_is_stopped_when_its_time_is_up(running: Running) -> None:
    workspace = running("sleep 60")
    began = time.monotonic()
    with pytest.raises(TimeIsUp, match="all the time"):
        run_dvc_stage(workspace, "validate", lambda line: None, StageLimits(deadline=began + 5))
    assert 5 <= time.monotonic() - began < 30


def test_a_stage_that_ends_in_time_is_left_alone(running: Running) -> None:
    workspace = running("echo done")
    assert (
        run_dvc_stage(workspace, "validate", lambda line: None, StageLimits(deadline=time.monotonic() + 60))
        is None
    )


def test_a_stage_that_fails_says_what_it_said_last(running: Running) -> None:
    workspace = running("sh -c 'echo no such luck; exit 3'")
    with pytest.raises(StageFailed) as failed:
        run_dvc_stage(workspace, "validate", lambda line: None, StageLimits())
    assert (failed.value.exit_code, failed.value.retry) == (1, True)


def test_a_pipeline_that_dvc_can_not_read_is_not_tried_again(running: Running) -> None:
    workspace = running("true")
    (workspace.root / "dvc.yaml").write_text("stages: {validate: {cmd: x, depz: [a]}}")
    with pytest.raises(StageFailed, match=r"dvc.yaml' validation failed: mend the file") as failed:
        run_dvc_stage(workspace, "validate", lambda line: None, StageLimits())
    assert (failed.value.exit_code, failed.value.retry) == (2, False)
