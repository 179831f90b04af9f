"""A push that is killed at any write: the next one, on this clone or another, leaves every byte on the remote."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from forked_programs import COUNTDOWN, Countdown

from flows.dvc_stage import StageLimits, run_dvc_stage
from vggflow import workspace as workspaces
from vggflow.errors import VggflowError
from vggflow.git_and_dvc import killed_push
from vggflow.workspace import Workspace


@pytest.fixture
def here(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with two pictures, an empty file, and an empty remote of its own."""
    monkeypatch.setattr(killed_push, "SECONDS_OF_DOUBT", 0.0)
    made = workspaces.find(workspace)
    made.dvc("remote", "modify", "local", "url", str(tmp_path / "remote"))
    for path in sorted((workspace / "data").rglob("*.png"))[2:]:
        path.unlink()
    (workspace / "data/train/red/empty.txt").touch()
    made.dvc("add", "data")
    return made


def _remote(here: Workspace) -> dict[str, bytes]:
    folder = here.root.parent / "remote/files/md5"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("??/*")}


def _emptied(here: Workspace) -> None:
    for path in (here.root.parent / "remote").glob("files/md5/??/*"):
        path.unlink()


def _killed(here: Workspace, writes: int) -> bool:
    """Pushes, killed at a write; tells whether there were so many."""
    countdown = Countdown.start(here.root.parent / "countdown", writes)
    os.environ[COUNTDOWN] = str(here.root.parent / "countdown")
    try:
        here.dvc("push", "data.dvc")
    except VggflowError:
        assert countdown.left < 0
    finally:
        del os.environ[COUNTDOWN]
    return countdown.left < 0


def _writes(here: Workspace) -> Iterator[int]:
    """Each write of a push, one after the other."""
    for writes in range(1000):
        _emptied(here)
        if not _killed(here, writes):
            return
        yield writes


@pytest.mark.slow
def test_after_a_kill_at_any_write_the_next_push_brings_every_byte(here: Workspace) -> None:
    here.dvc("push", "data.dvc")
    whole, halves, count = _remote(here), 0, 0
    assert killed_push.MD5_OF_NOTHING[:2] + "/" + killed_push.MD5_OF_NOTHING[2:] in whole
    for _ in _writes(here):
        count += 1
        halves += sum(not content for name, content in _remote(here).items() if name.endswith(".dir"))
        here.dvc("push", "data.dvc")
        assert {name: content for name, content in _remote(here).items() if name in whole} == whole
    # Else no kill came between making an empty file and taking it away.
    assert count > 10
    assert halves > 0


def test_another_clone_pushes_a_version_whose_listing_a_killed_push_left_empty(
    here: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here.dvc("push", "data.dvc")
    whole = _remote(here)
    here.git("commit", "--quiet", "--all", "--message", "Fewer")
    subprocess.run(["git", "clone", "--quiet", here.root, tmp_path / "clone"], check=True)
    clone = workspaces.find(tmp_path / "clone")
    clone.dvc("pull", "--quiet", "data.dvc")
    listing = next(name for name in whole if name.endswith(".dir"))
    path = tmp_path / "remote/files/md5" / listing
    path.chmod(0o644)
    path.write_bytes(b"")
    capfd.readouterr()
    clone.dvc("push", "data.dvc")
    assert _remote(clone) == whole
    assert "a killed push left 1 empty file on the DVC remote: removed" in capfd.readouterr().err


def test_a_listing_of_a_stage_that_a_killed_push_left_empty_lets_others_run_the_stage(
    here: Workspace, tmp_path: Path
) -> None:
    stage = {
        "cmd": "mkdir -p out && cp data/train/red/* out/ && echo 1 > out/one",
        "deps": ["data"],
        "outs": ["out"],
    }
    (here.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}))
    run_dvc_stage(here, "copy", lambda _: None, StageLimits())
    here.git("add", "dvc.lock", "dvc.yaml")
    here.git("commit", "--quiet", "--all", "--message", "A stage")
    here.dvc("push", "--run-cache")
    listing = yaml.safe_load((here.root / "dvc.lock").read_text())["stages"]["copy"]["outs"][0]["md5"]
    path = tmp_path / "remote/files/md5" / listing[:2] / listing[2:]
    path.chmod(0o644)
    path.write_bytes(b"")
    subprocess.run(["git", "clone", "--quiet", here.root, tmp_path / "clone"], check=True)
    clone = workspaces.find(tmp_path / "clone")
    clone.dvc("pull", "--quiet", "data.dvc")
    run_dvc_stage(clone, "copy", lambda _: None, StageLimits())
    assert sorted(path.name for path in (clone.root / "out").iterdir()) == sorted(
        path.name for path in (here.root / "out").iterdir()
    )
    clone.dvc("push", "--run-cache")
    assert path.stat().st_size > 0


def test_a_file_that_nobody_here_may_remove_leaves_dvc_s_own_words(
    here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.dvc("push", "data.dvc")
    path = next((tmp_path / "remote/files/md5").glob("??/*.dir"))
    path.chmod(0o644)
    path.write_bytes(b"")
    unlink = Path.unlink

    def refused(self: Path, *, missing_ok: bool = False) -> None:
        if self == path:
            raise PermissionError(13, "Permission denied")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(VggflowError, match="is corrupted"):
        here.dvc("push", "data.dvc")


def test_a_file_that_another_push_is_about_to_take_away_is_left_to_it(
    here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.dvc("push", "data.dvc")
    name = next(name for name, content in _remote(here).items() if content and not name.endswith(".dir"))
    path = tmp_path / "remote/files/md5" / name
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"")

    def finish(_: float) -> None:
        (tmp_path / "beside").write_bytes(content)
        (tmp_path / "beside").replace(path)

    monkeypatch.setattr("time.sleep", finish)
    assert killed_push.remove_empty(here.root) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("url", ["s3://bucket/path", "ssh://ann@host/path", "/nowhere/at/all"])
def test_a_remote_that_is_no_folder_here_is_left_alone(here: Workspace, url: str) -> None:
    here.dvc("remote", "modify", "local", "url", url)
    assert killed_push.remove_empty(here.root) == 0
