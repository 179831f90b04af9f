"""Where DVC's cache lies is asked for once, and again when its settings say another place."""

from pathlib import Path

from vggflow.versioning import data_versions
from vggflow.workspace import find


def test_a_cache_that_was_moved_is_found_where_it_is_now(workspace: Path, tmp_path: Path) -> None:
    here = find(workspace)
    version = data_versions.entry(here, "data")
    assert version is not None
    assert data_versions.Cache(here).listing(version.md5) is not None
    here.dvc("cache", "dir", "--local", str(tmp_path / "elsewhere"))
    assert data_versions.Cache(here).listing(version.md5) is None
    (workspace / ".dvc/cache").rename(tmp_path / "elsewhere")
    assert data_versions.Cache(here).listing(version.md5) is not None
