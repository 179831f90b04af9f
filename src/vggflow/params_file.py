"""Changes to `params.yaml` that leave a person's comments and order as they are."""

import io
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from vggflow.errors import SettingsError
from vggflow.files import read_text, write_text

SECTION, LISTED = "validate", "exclude_images"
# Lines stay as long as they are.
WIDTH = 10_000


def change_excluded_images(path: Path, add: Iterable[str], remove: Iterable[str]) -> None:
    """Adds images to `validate.exclude_images` and takes others out, by their SHA-256; whole or not at all.

    Raises:
        SettingsError: the file is no YAML, or the section is something else.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    text = read_text(path)
    try:
        content = yaml.load(text)
    except YAMLError as error:
        raise SettingsError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    section = content.get(SECTION) if isinstance(content, CommentedMap) else None
    if not isinstance(section, CommentedMap):
        raise SettingsError(f"{path}: expected a section `{SECTION}` with settings")
    before = list(section.get(LISTED) or [])
    gone = set(remove)
    after = [each for each in dict.fromkeys([*before, *add]) if each not in gone]
    if after == before:
        return
    if after:
        section[LISTED] = CommentedSeq(after)
    else:
        section.pop(LISTED, None)
    _indent_as(yaml, text)
    out = io.StringIO()
    yaml.dump(content, out)
    write_text(path, out.getvalue())


def _indent_as(yaml: YAML, text: str) -> None:
    """Lists are indented as the file does it: by two below their key, or not at all."""
    indented = any(line.startswith("    - ") for line in text.splitlines())
    if indented:
        yaml.indent(mapping=2, sequence=4, offset=2)
