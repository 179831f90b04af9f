"""Changes to `params.yaml` that leave a person's comments and order as they are."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from vggflow.errors import SettingsError
from vggflow.files import read_text, write_text
from vggflow.settings import Plain

SECTION, LISTED = "validate", "exclude_images"
# Lines stay as long as they are.
WIDTH = 10_000


def change_excluded_images(path: Path, add: Iterable[str], remove: Iterable[str]) -> None:
    """Adds images to `validate.exclude_images` and takes others out, by their SHA-256; whole or not at all.

    Raises:
        SettingsError: the file is no YAML, or the section is something else.
    """
    text = read_text(path)
    yaml, content = _read(path, text)
    section = _section(path, content, SECTION)
    before = list(section.get(LISTED) or [])
    gone = set(remove)
    after = [each for each in dict.fromkeys([*before, *add]) if each not in gone]
    if after == before:
        return
    if after:
        section[LISTED] = CommentedSeq(after)
    else:
        section.pop(LISTED, None)
    write_text(path, _written(yaml, content))


def with_settings(path: Path, values: Mapping[str, Plain], search: Mapping[str, Any]) -> str:
    """The text of the file with other values of some settings, and with keys of its section `search`.

    Args:
        values: By their names, such as `train.phases.head.learning_rate`.

    Raises:
        SettingsError: the file is no YAML, or a section is something else.
    """
    yaml, content = _read(path, read_text(path))
    for name, value in values.items():
        *sections, key = name.split(".")
        place: Any = content
        for each in sections:
            place = _within(path, place, each)
        if not isinstance(place, CommentedMap):
            raise SettingsError(f"{path}: expected `{sections[-1]}` with settings")
        _put(place, key, value)
    if "search" not in content:
        content["search"] = CommentedMap()
        content.yaml_set_comment_before_after_key("search", before="\n")
    _section(path, content, "search").update(search)
    return _written(yaml, content)


def _put(place: CommentedMap, key: str, value: Plain) -> None:
    """A new key comes second: behind the last one it would stand after the blank line that ends the section."""
    if key in place or place.fa.flow_style():
        place[key] = value
    else:
        place.insert(min(1, len(place)), key, value)


def _within(path: Path, place: Any, key: str) -> Any:
    """The section below this one, or of a list the entry of this name."""
    if isinstance(place, CommentedSeq):
        return next(entry for entry in place if entry.get("name") == key)
    if not isinstance(place, CommentedMap) or key not in place:
        raise SettingsError(f"{path}: expected `{key}` with settings")
    return place[key]


def _section(path: Path, content: Any, name: str) -> CommentedMap:
    section = content.get(name) if isinstance(content, CommentedMap) else None
    if not isinstance(section, CommentedMap):
        raise SettingsError(f"{path}: expected a section `{name}` with settings")
    return section


def _read(path: Path, text: str) -> tuple[YAML, Any]:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    # Lists are indented as the file does it: by two below their key, or not at all.
    if any(line.startswith("    - ") for line in text.splitlines()):
        yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        return yaml, yaml.load(text)
    except YAMLError as error:
        raise SettingsError(f"{path} is no YAML: {' '.join(str(error).split())}") from error


def _written(yaml: YAML, content: Any) -> str:
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
