"""Jobs for tiny trainings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from tiny_training import draw, settings

from vggflow.gate.scan import scan
from vggflow.training.job import TrainingJob

MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two classes; read it only."""
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, "train", {"across": 14, "down": 14}, seed=1)
    draw(folder, "valid", {"across": 6, "down": 6}, seed=2)
    return folder


@pytest.fixture
def make_job(pictures: Path, tmp_path: Path) -> MakeJob:
    """Makes jobs that share a state folder."""

    def make(
        train: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        data: Path = pictures,
        **more: Any,
    ) -> TrainingJob:
        manifest = scan(data)
        job = TrainingJob(settings(train, model), manifest, data, None, tmp_path / "state")
        return replace(job, **more)

    return make


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lets JAX find what an earlier test compiled: each training makes its functions anew, but they are the same."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
