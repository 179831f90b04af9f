"""Images that are left out are written into params.yaml, and nothing else there changes."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from vggflow import settings
from vggflow.errors import SettingsError
from vggflow.params_file import change_excluded_images

FIRST, SECOND = "a" * 64, "0123456789" * 6 + "0123"
RECIPES = sorted(
    each.name for each in (files("vggflow") / "template" / "recipes").iterdir() if each.name.endswith(".yaml")
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_added_and_taken_out_again_it_is_the_same_file(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "params.yaml"
    before = (files("vggflow") / "template" / "recipes" / recipe).read_text("utf-8")
    path.write_text(before, encoding="utf-8")
    change_excluded_images(path, [FIRST, SECOND, FIRST], [])
    after = path.read_text("utf-8")
    assert settings.parse(yaml.safe_load(after)).validate_.exclude_images == (FIRST, SECOND)
    # Every line is still there, in its order; only lines for the list came.
    assert [line for line in after.splitlines() if line in before.splitlines()] == before.splitlines()
    change_excluded_images(path, [], [FIRST])
    assert settings.parse(yaml.safe_load(path.read_text("utf-8"))).validate_.exclude_images == (SECOND,)
    change_excluded_images(path, [], [SECOND])
    assert path.read_text("utf-8") == before


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"validate:   {{exclude_images: [{FIRST}]}}  # by hand\n")
    state = path.stat().st_mtime_ns
    change_excluded_images(path, [FIRST], [SECOND])
    assert path.stat().st_mtime_ns == state


@pytest.mark.parametrize("text", ["model: {}\n", "validate: 3\n", "- a\n", "a: [\n", ""])
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        change_excluded_images(path, [FIRST], [])
    assert path.read_text() == text
