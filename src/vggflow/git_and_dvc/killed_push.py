"""What a killed `dvc push` leaves on a remote that is a folder: an empty listing, and no push of that version goes on.

Before DVC copies a file it tries to share its blocks, which makes an empty file under the final name and takes it away
where that fails. Killed in between, it leaves the empty file. Files are looked at once more by the next push, but a
listing, which goes last, is read: "….dir is corrupted", on every clone, until somebody removes it.
"""

import configparser
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vggflow.console import tell

# What DVC says then.
CORRUPTED = ".dir is corrupted"
# A push that is at work right now makes such a file for some microseconds.
SECONDS_OF_DOUBT = 1.0
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
# Below a folder of the first two digits; what DVC is copying at this moment has another name.
NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")


def remove_empty(root: Path) -> int:
    """Removes empty files from the remotes of the workspace that are folders; returns how many there were."""
    found = {path: path.stat().st_ino for path in _empty(root)}
    if not found:
        return 0
    time.sleep(SECONDS_OF_DOUBT)
    removed = 0
    for path, inode in found.items():
        with suppress(FileNotFoundError):
            status = path.stat()
            if status.st_size == 0 and status.st_ino == inode:
                path.unlink()
                removed += 1
    if removed:
        tell(f"a killed push left {removed} empty file{'s' * (removed > 1)} on the DVC remote: removed")
    return removed


def _empty(root: Path) -> Iterator[Path]:
    for remote in _folders(root):
        for path in (remote / "files" / "md5").glob("??/*"):
            with suppress(FileNotFoundError):
                named = NAME.fullmatch(path.name) and path.parent.name + path.name != MD5_OF_NOTHING
                if named and path.stat().st_size == 0:
                    yield path


def _folders(root: Path) -> Iterator[Path]:
    """The remotes that are folders of this machine, or mounted there."""
    # Raw: a `%` in an address means nothing.
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read([root / ".dvc" / name for name in ("config", "config.local")], encoding="utf-8")
    except configparser.Error:
        return  # DVC says in its own words what is wrong with it
    for section in config.sections():
        url = config.get(section, "url", fallback="").removeprefix("file://")
        # A relative address starts at the folder of the file that names it.
        if "remote" in section and url and "://" not in url:
            yield root / ".dvc" / url
