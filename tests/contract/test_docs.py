"""The pages name every command, option and setting, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from vggflow import cli
from vggflow.settings import Phase, Section, Settings

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs/commands.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
EVERYWHERE = {"--help", "--json"}


def _commands(group: Any, name: str = "vggflow") -> Iterator[tuple[str, Any]]:
    if hasattr(group, "commands"):
        for key, command in group.commands.items():
            yield from _commands(command, f"{name} {key}")
    else:
        yield name, group


ALL = dict(_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_is_documented_with_its_options(name: str) -> None:
    described = [line for line in COMMANDS.splitlines() if re.search(rf"`{name}[ `]", line)]
    assert described, f"{name} is not in docs/commands.md"
    options = {max(o.opts, key=len) for o in ALL[name].params if o.param_type_name == "option"} - EVERYWHERE
    text = " ".join(described)
    short = {max(o.opts, key=len): o.opts for o in ALL[name].params}
    assert [option for option in sorted(options) if not any(spelt in text for spelt in short[option])] == []


def test_no_command_is_documented_that_does_not_exist() -> None:
    named = re.findall(r"^\| `(vggflow [a-z]+(?: [a-z]+)?)", COMMANDS, re.MULTILINE)
    assert [name for name in named if name not in ALL and name.rpartition(" ")[0] not in ALL] == []


def _keys(section: type[Section]) -> Iterator[str]:
    """Names of settings, also within what is repeated or may be left out, such as a phase and its early stopping."""
    for name, field in section.model_fields.items():
        yield field.alias or name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _keys(kind)


def test_settings_of_a_phase_are_among_those_that_are_looked_at() -> None:
    assert {*Phase.model_fields} | {"patience"} <= set(_keys(Settings))


@pytest.mark.parametrize("key", sorted(set(_keys(Settings))))
def test_a_setting_is_documented(key: str) -> None:
    assert f"`{key}`" in SETTINGS or f"## {key}" in SETTINGS.lower()
