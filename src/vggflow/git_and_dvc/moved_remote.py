"""A workspace moved together with its DVC remote, which lies beside it and is named by its absolute address."""

import re
from pathlib import Path

from vggflow.console import tell
from vggflow.files import write_text

# Absolute paths only: a remote on a network does not move along.
URL = re.compile(r"^(?P<key>\s*url\s*=\s*)(?P<path>/.*?)\s*$", re.MULTILINE)


def follow_remote(root: Path) -> None:
    """The DVC remote is the one beside the workspace, where the recorded one is gone.

    The address is absolute because clones of the workspace lie elsewhere; so it has to follow when both are moved.
    """
    config = root / ".dvc" / "config"
    if not config.is_file():
        return
    before = config.read_text("utf-8")
    after = URL.sub(lambda found: f"{found['key']}{_place(Path(found['path']), root)}", before)
    if after != before:
        write_text(config, after)
        tell(
            f"the workspace was moved: its DVC remote is the one in {root.parent} now; "
            "`git commit .dvc/config` tells clones"
        )


def _place(recorded: Path, root: Path) -> Path:
    beside = root.parent / recorded.name
    # `files` is what DVC has in a remote: any other folder of that name is none.
    return beside if not recorded.exists() and (beside / "files").is_dir() else recorded
