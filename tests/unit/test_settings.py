from pathlib import Path

import pytest
import yaml
from tiny import TINY

from vggflow import settings
from vggflow.errors import SettingsError


def _with(section: str, **changed: object) -> dict[str, object]:
    return TINY | {section: TINY[section] | changed}


def _refused(content: object) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.parse(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_template_is_read() -> None:
    read = settings.load(Path(__file__).parents[2] / "params.yaml")
    assert [phase.name for phase in read.train.phases] == ["head", "top"]
    assert read.registry.candidates == "image-classifier-candidates"


def test_an_unknown_key_is_named() -> None:
    assert "`train.learning_rte`" in _refused(_with("train", learning_rte=0.1))


def test_an_unknown_section_is_named() -> None:
    assert "`trian`" in _refused(TINY | {"trian": {}})


def test_a_wrong_type_is_shown() -> None:
    said = _refused(_with("train", batch_size="many"))
    assert "`train.batch_size`" in said
    assert "'many'" in said


def test_a_missing_section_is_named() -> None:
    assert "`train` is missing" in _refused(
        {name: section for name, section in TINY.items() if name != "train"}
    )


def test_numbers_in_quotes_are_no_numbers() -> None:
    assert "`train.batch_size`" in _refused(_with("train", batch_size="32"))


def test_two_phases_of_one_name_are_refused() -> None:
    twice = [{"name": "head", "epochs": 1}, {"name": "head", "epochs": 1}]
    assert "different names" in _refused(_with("train", phases=twice))


def test_the_fc_head_with_imagenet_weights_needs_224_pixels() -> None:
    model = {"image_size_px": 128, "weights": "imagenet", "head": "fc"}
    said = _refused(TINY | {"model": model})
    assert "224" in said
    assert "128" in said


def test_the_published_builder_has_one_width() -> None:
    assert "builder: sequential" in _refused(
        TINY | {"model": {"builder": "keras", "width": 0.5, "weights": "none"}}
    )


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train: [")
    with pytest.raises(SettingsError, match="is not YAML"):
        settings.load(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("")
    with pytest.raises(SettingsError, match="expected sections"):
        settings.load(path)


def test_settings_are_frozen() -> None:
    read = settings.parse(yaml.safe_load(yaml.safe_dump(TINY)))
    with pytest.raises(ValueError, match="frozen"):
        read.train.seed = 3
