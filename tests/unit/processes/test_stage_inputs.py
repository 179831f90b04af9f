"""What a stage depends on is looked at when it starts and when it ends."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from tiny import COLOURS, draw, draw_data, write_params

from vggflow import artifacts
from vggflow.errors import InputsChanged, SettingsError
from vggflow.processes import stage_inputs
from vggflow.workspace import Workspace

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    """A workspace without git or DVC: files are all that is looked at."""
    write_params(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    draw_data(tmp_path / "data")
    (tmp_path / "vggflow.version").write_text("0.1.0\n")
    return Workspace(tmp_path)


def _change_settings(here: Workspace, section: str, **values: object) -> None:
    path = here.path(artifacts.PARAMS)
    content = yaml.safe_load(path.read_text())
    content.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(content))


def test_what_stays_as_it_is_passes(here: Workspace) -> None:
    with stage_inputs.unchanged(here, "train"):
        draw(here.root / "data/test/red/new.png", COLOURS["red"], 1)  # not what train depends on
        _change_settings(here, "promotion", rule="never")


def test_a_setting_that_changes_is_named_with_both_values(here: Workspace) -> None:
    _change_settings(here, "train", seed=3)
    with (
        pytest.raises(
            InputsChanged, match=r"params.yaml: train.seed 3 → 99 changed while train ran"
        ) as caught,
        stage_inputs.unchanged(here, "train"),
    ):
        _change_settings(here, "train", seed=99)
    assert (caught.value.exit_code, caught.value.retry) == (1, True)


def test_a_phase_that_changes_is_named_by_its_place(here: Workspace) -> None:
    _change_settings(here, "train", phases=[{"name": "all", "epochs": 2}])
    with (
        pytest.raises(InputsChanged, match=r"train.phases\[0\].epochs 2 → 3 changed"),
        stage_inputs.unchanged(here, "train"),
    ):
        _change_settings(here, "train", phases=[{"name": "all", "epochs": 3}])


@pytest.mark.parametrize("way", ["added", "removed", "rewritten", "renamed"])
def test_images_that_change_are_named_by_their_folder(here: Workspace, way: str) -> None:
    image = here.root / "data/train/red/0.png"
    with (
        pytest.raises(InputsChanged, match=r"^data/train/red changed while train ran"),
        stage_inputs.unchanged(here, "train"),
    ):
        if way == "added":
            draw(image.with_name("new.png"), COLOURS["red"], 1)
        elif way == "rewritten":
            image.write_bytes(image.read_bytes()[::-1])
        elif way == "renamed":
            image.rename(image.with_name("other.png"))
        else:
            image.unlink()


def test_a_new_class_is_a_change(here: Workspace) -> None:
    with pytest.raises(InputsChanged, match="data/train/green"), stage_inputs.unchanged(here, "train"):
        draw(here.root / "data/train/green/0.png", (0, 200, 0), 1)


def test_what_dvc_does_not_look_at_may_change(here: Workspace) -> None:
    with stage_inputs.unchanged(here, "evaluate"):
        draw(here.root / "data/sample/train/red/0.png", COLOURS["red"], 1)
        (here.root / "data/train/.DS_Store").write_text("")


def test_a_small_file_that_is_written_again_with_the_same_content_is_no_change(here: Workspace) -> None:
    path = here.path(artifacts.VERSION)
    with stage_inputs.unchanged(here, "validate"):
        path.unlink()
        path.write_text("0.1.0\n")
        os.utime(path, (0, 0))


def test_another_version_of_vggflow_in_the_workspace_is_a_change(here: Workspace) -> None:
    with pytest.raises(InputsChanged, match=r"vggflow.version"), stage_inputs.unchanged(here, "validate"):
        here.path(artifacts.VERSION).write_text("0.2.0\n")


@pytest.mark.parametrize("package", ["pillow", "keras"])
def test_a_package_that_is_upgraded_meanwhile_is_a_change(
    here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    upgraded = tmp_path / "packages" / f"{package}-99.0.dist-info"
    upgraded.mkdir(parents=True)
    (upgraded / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")
    with (
        pytest.raises(InputsChanged, match=f"^package {package} changed while evaluate ran"),
        stage_inputs.unchanged(here, "evaluate"),
    ):
        monkeypatch.syspath_prepend(upgraded.parent)


def test_settings_that_can_no_longer_be_read_end_the_stage_too(here: Workspace) -> None:
    with pytest.raises(SettingsError, match="can't be read"), stage_inputs.unchanged(here, "train"):
        here.path(artifacts.PARAMS).write_text("train: [")


def test_a_stage_that_dvc_yaml_does_not_name_depends_on_the_packages_only(here: Workspace) -> None:
    assert all(name.startswith("package ") for name in stage_inputs.look(here, "other").seen)
