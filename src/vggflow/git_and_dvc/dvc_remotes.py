"""The remotes that a workspace's DVC configuration names, read from its files: asking DVC takes half a second."""

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Remote:
    """A remote: its name, its address as it is written, and whether somebody decided that it is checked, or not."""

    name: str
    url: str
    decided: bool


def remotes(root: Path) -> Iterator[Remote]:
    """The remotes of the workspace at `root`; none where the files can't be read, which DVC says in its own words."""
    folder = root / ".dvc"
    # Raw: a `%` in an address means nothing.
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
    except configparser.Error:
        return
    for section in config.sections():
        # DVC writes `['remote "name"']`.
        words = section.strip("'").split('"')
        if words[0].strip() == "remote":
            url = config.get(section, "url", fallback="")
            yield Remote(words[1], url, config.has_option(section, "verify"))


def folders(root: Path) -> Iterator[Path]:
    """Those that are folders of this machine, or mounted there."""
    for remote in remotes(root):
        url = remote.url.removeprefix("file://")
        if url and "://" not in url:
            # A relative address starts at the folder of the file that names it.
            yield root / ".dvc" / url
