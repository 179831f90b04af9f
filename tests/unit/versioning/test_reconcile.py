"""Bringing a folder and its `.dvc` file together, where what a kill left is in the way."""

from pathlib import Path

from vggflow import workspace as workspaces
from vggflow.commands import prepare
from vggflow.git_and_dvc import dvc_file


def test_half_a_listing_that_a_killed_dvc_left_is_made_again(workspace: Path) -> None:
    """DVC takes it for whole as soon as it is write-protected, and every push stops at it."""
    here = workspaces.find(workspace)
    here.dvc("remote", "modify", "local", "url", str(workspace.parent / "remote"))
    here.dvc("push", "weights.dvc")
    version = dvc_file.read(workspace / "weights.dvc")
    assert version is not None
    listing = workspace / ".dvc/cache/files/md5" / version.md5[:2] / version.md5[2:]
    listing.chmod(0o644)
    listing.write_bytes(b"")
    listing.chmod(0o444)

    prepare.prepare(here)

    assert listing.read_bytes()
    here.dvc("push", "weights.dvc")
