"""Images that are left out are written into params.yaml, and nothing else there changes."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from vggflow import settings
from vggflow.errors import SettingsError
from vggflow.params_file import change_excluded_images, with_settings

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


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_get_other_values_and_no_line_besides_is_another(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "params.yaml"
    before = (files("vggflow") / "template" / "recipes" / recipe).read_text("utf-8")
    path.write_text(before, encoding="utf-8")
    first = settings.load(path).train.phases[0].name
    rate, dropout, weights = f"train.phases.{first}.learning_rate", "model.dropout", "train.class_weights"
    chosen = {"trials": 3, "images": 9, "accuracy": 0.5, "settings": "0" * 16}
    after = with_settings(path, {rate: 0.0123, dropout: 0.25, weights: "balanced"}, {"chosen": chosen})
    found = settings.parse(yaml.safe_load(after))
    assert found.train.phases[0].learning_rate == 0.0123
    assert (found.model.dropout, found.train.class_weights) == (0.25, "balanced")
    assert found.search.chosen is not None and found.search.chosen.trials == 3
    assert path.read_text("utf-8") == before
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    assert all("learning_rate" in line or "dropout" in line for line in gone)
    assert len(gone) <= 2
    # Sections still end where they did: a new key is not behind the blank line that ends one.
    assert "\n\n  class_weights" not in after
    # Written twice it is the same.
    path.write_text(after, encoding="utf-8")
    assert with_settings(path, {rate: 0.0123}, {"chosen": chosen}) == after


def test_a_section_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("model: 3\n")
    with pytest.raises(SettingsError, match="expected") as refused:
        with_settings(path, {"model.dropout": 0.5}, {})
    assert "\n" not in str(refused.value)
