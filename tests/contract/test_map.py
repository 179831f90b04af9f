"""The map in CONTRIBUTING.md is that of the tree: its layers, its packages, the files that it names."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/vggflow"
MAP = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The map")[2].partition("## A release")[0]
LAYERS = MAP.partition("| layer |")[2].partition("\n\n")[0]
ROWS = [re.findall(r"`([a-z_]+(?:\.py|/))`", row.split("|")[1]) for row in LAYERS.splitlines() if "`" in row]
# Folders of a workspace, not of this tree.
OF_A_WORKSPACE = {"data/", "weights/"}
NAMED = re.findall(r"`((?:src/|flows/|tests/)?[a-z_0-9]+(?:/[a-z_0-9]+)*(?:\.py|/))`", MAP)
QUESTIONS = re.findall(r"^\| (.+) \| `([^`]+)`", MAP.partition("### Where do I change")[2], re.MULTILINE)


def _module(name: str) -> str:
    return name.rstrip("/").removesuffix(".py")


def test_layers_stand_in_the_order_in_which_imports_may_go() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    wanted = contracts["importlinter:contract:layers"]["layers"].split("\n")
    assert ROWS[0] == ["flows/"]
    assert [" | ".join(map(_module, row)) for row in ROWS[1:]] == [layer for layer in wanted if layer]


def test_every_package_and_module_of_the_root_has_its_line() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    modules = {path.stem for path in SOURCE.glob("[a-z]*.py")}
    told = {_module(name) for row in ROWS for name in row}
    assert told == packages | modules | {"flows"}


@pytest.mark.parametrize("name", sorted({*NAMED} - OF_A_WORKSPACE))
def test_what_the_map_names_is_there(name: str) -> None:
    assert (ROOT / name).exists() or (SOURCE / name).exists()


def test_the_map_answers_at_least_twenty_questions() -> None:
    assert len(QUESTIONS) >= 20
    assert len({place for _, place in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("package", sorted({path.parent.name for path in SOURCE.glob("*/__init__.py")}))
def test_a_package_says_in_its_first_line_what_it_is_for(package: str) -> None:
    assert len((SOURCE / package / "__init__.py").read_text("utf-8").splitlines()[0]) > 20


def test_a_command_is_a_module_of_its_name() -> None:
    from vggflow import cli

    commands = [name for group in cli.COMMANDS.values() for name in group]
    assert sorted(commands) == sorted(
        work.__module__.rpartition(".")[2] for group in cli.COMMANDS.values() for work in group.values()
    )
