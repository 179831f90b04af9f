"""What git knows about a workspace, and what stands for it when git knows nothing or fails."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import Ran

from vggflow.commands import doctor
from vggflow.errors import VggflowError
from vggflow.tracking.registry import lineage
from vggflow.versioning import git_state
from vggflow.versioning.git_state import Commit
from vggflow.workspace import Workspace, find


def _broken(root: Path) -> None:
    (root / ".git" / "config").write_text("[core\n")


def test_a_commit_is_told_with_its_remote_and_without_a_password(workspace: Path) -> None:
    here = find(workspace)
    here.git("remote", "add", "origin", "https://ann:geheim@host/pets.git")
    commit = here.git("rev-parse", "HEAD").strip()
    (workspace / "dvc.lock").write_text("written by a run")
    assert git_state.commit_of(here) == Commit(commit, "https://host/pets.git", dirty=False)
    (workspace / "params.yaml").write_text("changed by a person")
    assert git_state.commit_of(here).dirty


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("team", "https://host/pets.git", "https://host/pets.git"),
        ("origin", "ssh://git@host/team/pets.git", "ssh://git@host/team/pets.git"),
        ("origin", "ssh://git:geheim@host:22/team/pets.git", "ssh://git@host:22/team/pets.git"),
        ("origin", "git@host:team/pets.git", "git@host:team/pets.git"),
        ("origin", "https://token@host/pets.git", "https://host/pets.git"),
        ("origin", "../team/pets.git", "{parent}/team/pets.git"),
    ],
)
def test_a_remote_is_told_as_others_can_reach_it(workspace: Path, name: str, url: str, told: str) -> None:
    here = find(workspace)
    here.git("remote", "add", name, url)
    assert git_state.commit_of(here).remote == told.format(parent=workspace.parent)


def test_a_workspace_below_its_repository_is_dirty_by_its_own_files_only(tmp_path: Path) -> None:
    repository = tmp_path / "team"
    root = repository / "two words" / "猫"
    root.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    for name in ("params.yaml", "dvc.lock", "../note.txt"):
        (root / name).write_text("first")
    here = Workspace(root)
    here.git("add", "--all", str(repository))
    here.git("commit", "--quiet", "--message", "All of it")
    for name in ("dvc.lock", "../note.txt"):
        (root / name).write_text("changed by a run, or by somebody else")
    assert not git_state.commit_of(here).dirty
    (root / "params.yaml").write_text("changed by a person")
    assert git_state.commit_of(here).dirty


def test_of_several_remotes_origin_is_told(workspace: Path) -> None:
    here = find(workspace)
    for name in ("backup", "origin"):
        here.git("remote", "add", name, f"https://host/{name}.git")
    assert git_state.commit_of(here).remote == "https://host/origin.git"


def test_a_workspace_outside_of_git_says_so_in_its_lineage(workspace: Path) -> None:
    shutil.rmtree(workspace / ".git")
    found = lineage._git(find(workspace))
    assert (found["git.commit"], found["git.missing"]) == ("", "the workspace is in no git repository")
    subprocess.run(["git", "init", "--quiet", workspace], check=True)
    assert git_state.commit_of(find(workspace)).missing == "nothing is committed yet"


def test_a_git_that_fails_stops_a_version_from_being_made_without_a_commit(workspace: Path) -> None:
    _broken(workspace)
    with pytest.raises(VggflowError, match="bad config"):
        lineage._git(find(workspace))


def test_doctor_says_why_git_fails(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = {finding.check: finding for finding in doctor.examine(find(workspace))}
    assert found["git repository"].health == "wrong"
    assert "safe.directory" in found["git repository"].found


def test_doctor_names_a_detached_head(workspace: Path) -> None:
    find(workspace).git("checkout", "--quiet", "--detach")
    found = {finding.check: finding.health for finding in doctor.examine(find(workspace))}
    assert found["git branch"] == "warning"


def test_a_workspace_within_another_repository_is_refused_unless_that_ignores_it(
    vggflow: Callable[..., Ran], tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    ran = vggflow("init", tmp_path / "pets")
    assert ran.code == 2
    assert f"inside the git repository {tmp_path}" in ran.err
    assert not (tmp_path / "pets").exists()
    (tmp_path / ".gitignore").write_text("/pets/\n")
    assert vggflow("init", tmp_path / "pets").code == 0
    assert vggflow("init", tmp_path / "pets").code == 0, "it is a repository of its own by now"
    assert vggflow("init", "--nested", tmp_path / "birds").code == 0


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_at_a_terminal_a_person_is_asked_about_a_repository_within_another(
    vggflow: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    there, here = pty.openpty()
    with os.fdopen(here) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(there, f"{answer}\n".encode())
        ran = vggflow("init", tmp_path / "pets")
    os.close(there)
    assert ran.code == code, ran.err
    assert "Make a repository of its own there?" in ran.out
    assert (tmp_path / "pets").exists() == (code == 0)
