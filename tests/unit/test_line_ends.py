"""A clone whose git writes other line ends computes and records the same."""

import subprocess
from pathlib import Path

import pytest

from vggflow import artifacts, files
from vggflow.tracking import finished_retrains
from vggflow.workspace import find, follow_version


def _clone(workspace: Path, folder: Path) -> Path:
    """As git for Windows clones by default."""
    command = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", workspace, folder]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def made_before(workspace: Path) -> Path:
    """A workspace without .gitattributes, as a vggflow of before made it."""
    subprocess.run(["git", "rm", "--quiet", ".gitattributes"], cwd=workspace, check=True)
    subprocess.run(
        [
            "git",
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.org",
            "commit",
            "--quiet",
            "-m",
            "As before",
        ],
        cwd=workspace,
        check=True,
    )
    return workspace


def test_a_clone_has_the_bytes_that_dvc_digests(workspace: Path, tmp_path: Path) -> None:
    clone = _clone(workspace, tmp_path / "clone")
    for name in ("vggflow.version", "params.yaml", "dvc.yaml", "data.dvc"):
        assert (clone / name).read_bytes() == (workspace / name).read_bytes()


def test_digests_of_texts_are_equal_in_a_clone_of_a_workspace_of_before(
    made_before: Path, tmp_path: Path
) -> None:
    clone = _clone(made_before, tmp_path / "clone")
    assert b"\r\n" in (clone / "params.yaml").read_bytes()
    assert files.text_sha256(clone / "params.yaml") == files.sha256(made_before / "params.yaml")
    assert files.read_text(clone / "params.yaml") == (made_before / "params.yaml").read_text()
    assert finished_retrains.inputs(find(clone)) == finished_retrains.inputs(find(made_before))


def test_a_retraining_in_such_a_clone_makes_no_stage_stale(made_before: Path, tmp_path: Path) -> None:
    clone = _clone(made_before, tmp_path / "clone")
    assert (clone / artifacts.VERSION).read_bytes() != (made_before / artifacts.VERSION).read_bytes()
    assert follow_version(find(clone)) == ""
    assert (clone / artifacts.VERSION).read_bytes() == (made_before / artifacts.VERSION).read_bytes()
    assert find(clone).git("diff", "--stat") == ""
