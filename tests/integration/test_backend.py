"""What `train.backend` names computes everywhere: not only the training, also what judges and uses its model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_params

from vggflow import artifacts
from vggflow.commands import compare, evaluate, explain, predict, promotion_evidence
from vggflow.evaluation import heat
from vggflow.models import start_keras
from vggflow.workspace import Workspace, find


@pytest.fixture
def on_jax(evaluated: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    write_params(root, train={"backend": "jax"})
    return find(root)


@pytest.mark.slow
def test_a_model_that_tensorflow_trained_is_measured_by_jax_where_the_settings_say_so(
    on_jax: Workspace,
) -> None:
    before = on_jax.path(artifacts.METRICS).read_text()
    on_jax.path(artifacts.METRICS).unlink()
    code = (
        "import pathlib, sys; from vggflow.commands.evaluate import evaluate; from vggflow.workspace import find\n"
        f"evaluate(find(pathlib.Path({str(on_jax.root)!r})))\n"
        "import keras; print(keras.backend.backend(), 'tensorflow' in sys.modules)"
    )
    # The training of the fixture ran in this process, and told those that it starts what it computes with.
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "jax False"
    assert on_jax.path(artifacts.METRICS).read_text().count("accuracy") == before.count("accuracy")


class _StartedError(Exception):
    """Keras was about to start."""


@pytest.mark.parametrize(
    "act",
    [
        lambda workspace, picture, model: evaluate.evaluate(workspace),
        lambda workspace, picture, model: predict.predict(workspace.root, [picture], str(model)),
        lambda workspace, picture, model: explain.explain(
            workspace.root, picture, model, workspace.root / "out.png"
        ),
        lambda workspace, picture, model: compare.compare(workspace.root, model, model, picture.parent),
    ],
    ids=["evaluate", "predict", "explain", "compare"],
)
def test_every_command_starts_the_backend_of_the_settings(
    on_jax: Workspace, monkeypatch: pytest.MonkeyPatch, act: Callable
) -> None:
    asked = []

    def start(backend: str | None = None) -> None:
        asked.append(backend)
        raise _StartedError

    monkeypatch.setattr(start_keras, "start", start)
    picture = next(on_jax.path(artifacts.DATA).glob("test/*/*"))
    with pytest.raises(_StartedError):
        act(on_jax, picture, str(on_jax.path(artifacts.MODEL)))
    assert asked == ["jax"]


def test_the_processes_that_judge_are_told_the_backend(
    on_jax: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = []

    def run_module(
        module: str, *arguments: object, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        started.append((module, [str(each) for each in arguments]))
        return subprocess.CompletedProcess([], 0, '{"seconds": 1.0}', "")

    monkeypatch.setattr(promotion_evidence, "run_module", run_module)
    monkeypatch.setattr(heat, "run_module", run_module)
    scoring = promotion_evidence._Scoring(on_jax, "test", 8, on_jax.settings().train.backend)
    promotion_evidence._score(scoring, None, Path("model.keras"), tmp_path / "answers.parquet")
    with pytest.raises(FileNotFoundError):  # nothing was computed
        heat.heat_maps_in_process(Path("model.keras"), "jax")([])
    assert [module for module, _ in started] == ["vggflow.prediction.scoring", "vggflow.evaluation.heat"]
    assert started[0][1][-2:] == ["--backend", "jax"]
    assert started[1][1][-1] == "jax"


def test_where_there_is_no_workspace_a_file_is_used_with_what_keras_takes(tmp_path: Path) -> None:
    from vggflow.commands import named_model

    assert named_model.backend(tmp_path) is None
