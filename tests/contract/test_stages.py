"""Stage = CLI command = module of commands/ with a function of that name = DVC stage = section of params.yaml."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from vggflow import artifacts, cli, settings, workspace
from vggflow.commands import evaluate, train, validate

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = ["validate", "train", "evaluate"]
MODULES = {"validate": validate, "train": train, "evaluate": evaluate}


def test_dvc_has_exactly_the_stages_after_what_asks_the_registry() -> None:
    assert list(PIPELINE) == ["reference", *STAGES]


def test_what_validate_compares_with_is_asked_every_time_and_digested() -> None:
    assert PIPELINE["reference"]["always_changed"] is True
    assert PIPELINE["reference"]["outs"] == [{str(artifacts.REFERENCE): {"cache": False}}]
    assert str(artifacts.REFERENCE) in PIPELINE["validate"]["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_the_bytes_of_a_table(stage: str) -> None:
    assert not [name for name in PIPELINE[stage]["deps"] if name.endswith(".parquet")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_command_a_function_and_a_section(stage: str) -> None:
    commands = typer.main.get_command(cli.app).commands
    assert stage in commands
    assert inspect.isfunction(getattr(MODULES[stage], stage))
    assert PIPELINE[stage]["cmd"] == f"vggflow {stage}"
    assert stage in [field.alias or name for name, field in settings.Settings.model_fields.items()]
    assert stage in PIPELINE[stage]["params"]


@pytest.mark.parametrize("stage", STAGES)
def test_files_of_a_stage_are_named_in_artifacts(stage: str) -> None:
    named = {str(value) for value in vars(artifacts).values() if isinstance(value, artifacts.Path)}
    files = PIPELINE[stage]["deps"] + PIPELINE[stage]["outs"] + PIPELINE[stage].get("metrics", [])
    assert set(files) <= named


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_depends_on_the_version_of_vggflow(stage: str) -> None:
    assert str(artifacts.VERSION) in PIPELINE[stage]["deps"]


@pytest.mark.parametrize("recipe", workspace.recipes())
def test_every_recipe_is_valid(recipe: str) -> None:
    settings.parse(yaml.safe_load(workspace.recipe_text(recipe)))


def test_imports_follow_the_layers() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
