"""What a killed `dvc push` leaves on a remote that is a folder: an empty listing, and no push of that version goes on.

Before DVC copies a file it tries to share its blocks, which makes an empty file under the final name and takes it away
where that fails. Killed in between, it leaves the empty file. Files are looked at once more by the next push, but a
listing, which goes last, is read: "….dir is corrupted", on every clone, until somebody removes it. So is one of a
stage's results where another clone asks for them.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vggflow.console import tell
from vggflow.git_and_dvc import dvc_remotes

# What DVC says then.
CORRUPTED = ".dir is corrupted"
# A push that is at work right now makes such a file for some microseconds.
SECONDS_OF_DOUBT = 1.0
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
# Below a folder of the first two digits; what DVC is copying at this moment has another name.
NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")


def remove_empty(root: Path) -> int:
    """Removes empty files from the remotes of the workspace that are folders; returns how many there were."""
    found = dict(_empty(root))
    if not found:
        return 0
    time.sleep(SECONDS_OF_DOUBT)
    removed = 0
    for path, inode in found.items():
        # Gone by now, or another user's in a folder that is not ours: then DVC's own words stand.
        with suppress(OSError):
            status = path.stat()
            if status.st_size == 0 and status.st_ino == inode:
                path.unlink()
                removed += 1
    if removed:
        tell(f"a killed push left {removed} empty file{'s' * (removed > 1)} on the DVC remote: removed")
    return removed


def _empty(root: Path) -> Iterator[tuple[Path, int]]:
    """Files without content that are no file without content, with their inodes."""
    for remote in dvc_remotes.folders(root):
        for path in (remote / "files" / "md5").glob("??/*"):
            if not NAME.fullmatch(path.name) or path.parent.name + path.name == MD5_OF_NOTHING:
                continue
            with suppress(OSError):
                status = path.stat()
                if status.st_size == 0:
                    yield path, status.st_ino
