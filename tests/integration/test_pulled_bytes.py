"""What the DVC remote delivers is believed only where its bytes are those of its name."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.dvc_stage import StageLimits, run_dvc_stage
from vggflow import workspace as workspaces
from vggflow.commands import prepare, reference
from vggflow.errors import VggflowError
from vggflow.versioning import data_versions, verified_pull
from vggflow.workspace import Workspace


@pytest.fixture
def pushed(workspace: Path, tmp_path: Path) -> Workspace:
    """A workspace that pushed its data to a remote of its own."""
    here = workspaces.find(workspace)
    here.dvc("remote", "modify", "local", "url", str(tmp_path / "remote"))
    here.dvc("remote", "modify", "--unset", "local", "verify")  # as the version before made it
    here.git("commit", "--quiet", "--all", "--message", "A remote of its own")
    here.dvc("push", "data.dvc", "weights.dvc")
    return here


def clone_of(here: Workspace, name: str) -> Workspace:
    root = here.root.parent / name
    subprocess.run(["git", "clone", "--quiet", here.root, root], check=True)
    return workspaces.find(root)


def flip(here: Workspace, md5: str) -> None:
    """Changes a byte of what the remote holds under a name."""
    path = here.root.parent / "remote/files/md5" / md5[:2] / md5[2:]
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def listing_of(here: Workspace) -> dict[str, str]:
    version = data_versions.entry(here, "data")
    assert version is not None
    return data_versions.Cache(here).listing(version.md5) or {}


def test_a_picture_with_a_flipped_bit_is_named_and_nothing_is_taken(pushed: Workspace) -> None:
    md5 = listing_of(pushed)["train/red/3.png"]
    flip(pushed, md5)
    clone = clone_of(pushed, "clone")
    with pytest.raises(
        VggflowError, match=rf"nothing was taken: train/red/3\.png \(files/md5/{md5[:2]}/{md5[2:]}\)"
    ):
        prepare.prepare(clone)
    assert not (clone.root / "data").exists()
    shutil.rmtree(pushed.root.parent / "remote")
    pushed.dvc("push", "data.dvc", "weights.dvc")
    prepare.prepare(clone)
    assert workspaces.status(clone, "data") == "same"


def test_a_listing_with_a_flipped_bit_is_named(pushed: Workspace) -> None:
    version = data_versions.entry(pushed, "data")
    assert version is not None
    flip(pushed, version.md5)
    with pytest.raises(VggflowError, match="its listing"):
        prepare.prepare(clone_of(pushed, "clone"))


def test_who_decided_against_the_check_is_not_overruled(pushed: Workspace) -> None:
    pushed.dvc("remote", "modify", "local", "verify", "false")
    verified_pull.verify_remotes(pushed)
    local = pushed.root / ".dvc/config.local"
    assert not local.exists() or "verify" not in local.read_text("utf-8")


@pytest.mark.slow
def test_a_verdict_with_a_flipped_bit_is_not_restored_but_found_again(pushed: Workspace) -> None:
    for line in prepare.prepare(pushed):
        print(line)  # noqa: T201
    reference.reference(pushed)
    run_dvc_stage(pushed, "validate", print, StageLimits())
    pushed.dvc("push", "--run-cache")
    result = (pushed.root / "validation/result.json").read_bytes()
    flip(pushed, data_versions.md5_of(pushed.root / "validation/result.json"))
    clone = clone_of(pushed, "clone")
    prepare.prepare(clone)
    reference.reference(clone)
    outcome = run_dvc_stage(clone, "validate", print, StageLimits())
    assert outcome is not None, "it ran, and was not restored"
    assert (clone.root / "validation/result.json").read_bytes() == result
