"""Which bytes of a data folder are DVC's: never those of a file that changed since."""

import hashlib
from pathlib import Path

from vggflow.data.tracked import Tracked


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_files_that_dvc_has_are_known_by_their_hash(workspace: Path) -> None:
    tracked = Tracked(workspace / "data")
    path = workspace / "data/train/red/0.png"
    found = tracked.version(str(path))
    assert (found.md5, found.size) == (_md5(path), path.stat().st_size)
    assert tracked.remote is not None


def test_a_file_that_changed_or_came_since_has_no_hash(workspace: Path) -> None:
    changed, new = workspace / "data/train/red/0.png", workspace / "data/train/red/new.png"
    content = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(content[:-1] + b"!")
    new.write_bytes(content)
    tracked = Tracked(workspace / "data")
    assert tracked.version(str(changed)).md5 == "" == tracked.version(str(new)).md5
    assert tracked.version(str(workspace / "data/train/red/1.png")).md5


def test_a_file_that_is_gone_is_none_of_any_size(workspace: Path) -> None:
    assert Tracked(workspace / "data").version(str(workspace / "data/train/red/none.png")).size == -1


def test_a_folder_that_is_not_dvcs_has_no_hashes(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"a")
    tracked = Tracked(tmp_path / "data")
    assert (tracked.remote, tracked.version(str(path)).md5) == (None, "")
