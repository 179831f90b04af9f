"""Searches small enough for a test."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# The tiny trainings are those that the tests of training use.
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

MakeJob = Callable[..., Any]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two classes, not the same number of pictures in each; read it only."""
    from tiny_training import draw

    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, "train", {"across": 17, "down": 12}, seed=1)
    draw(folder, "valid", {"across": 6, "down": 6}, seed=2)
    return folder


@pytest.fixture
def make_job(pictures: Path, tmp_path: Path) -> MakeJob:
    """Makes jobs that share a state folder; `search` replaces that section."""
    from tiny_training import settings

    from vggflow.gate.scan import scan
    from vggflow.settings import SearchSettings
    from vggflow.training.job import TrainingJob

    def make(
        train: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        search: dict[str, Any] | None = None,
        **more: Any,
    ) -> TrainingJob:
        section = SearchSettings.model_validate(search or {})
        wanted = settings(train, model).model_copy(update={"search": section})
        return replace(TrainingJob(wanted, scan(pictures), pictures, None, tmp_path / "state"), **more)

    return make
