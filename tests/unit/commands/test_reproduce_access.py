"""What `vggflow reproduce` takes over from the workspace that it is run in."""

import stat
from pathlib import Path

from vggflow.commands import reproduce
from vggflow.workspace import Workspace


def test_passwords_of_the_dvc_remote_are_taken_over_and_stay_private(tmp_path: Path) -> None:
    here, clone = (Workspace(tmp_path / name) for name in ("here", "clone"))
    for workspace in (here, clone):
        (workspace.root / ".dvc").mkdir(parents=True)
    (here.root / ".dvc/config.local").write_text("['remote \"s3\"']\n    secret_access_key = hidden\n")
    reproduce._take_over_access(here, clone)
    copy = clone.root / ".dvc/config.local"
    assert copy.read_text() == (here.root / ".dvc/config.local").read_text()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_where_nothing_is_local_nothing_is_taken_over(tmp_path: Path) -> None:
    clone = Workspace(tmp_path / "clone")
    reproduce._take_over_access(Workspace(tmp_path), clone)
    assert not clone.root.exists()
