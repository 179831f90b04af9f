"""What git knows about a workspace: commit, branch, remote. A git that fails is an error, never "there is none"."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vggflow import artifacts
from vggflow.credentials import without_password
from vggflow.errors import UsageError
from vggflow.git_and_dvc.run import NoRepository, run
from vggflow.workspace import Workspace


@dataclass(frozen=True)
class Commit:
    """Where a workspace stands.

    Attributes:
        digest: The commit's SHA-1; empty where nothing is committed, or there is no repository.
        remote: What others clone, see `remote_url`; empty where there is no git remote.
        dirty: Whether the workspace differs from the commit, `dvc.lock` aside: that is what a run writes.
        missing: Why there is no commit, in words; else empty.
    """

    digest: str
    remote: str
    dirty: bool
    missing: str = ""


def commit_of(workspace: Workspace) -> Commit:
    """The commit that the workspace stands at.

    Raises:
        VggflowError: git failed: another user's folder, a broken repository, no git.
    """
    try:
        digest = workspace.git("rev-parse", "--verify", "--quiet", "HEAD", none=1).strip()
        # Said explicitly: somebody's git may be set to hide untracked files.
        # Of the workspace alone, which may be a folder of its repository; git tells paths from the repository's root.
        prefix = workspace.git("rev-parse", "--show-prefix").strip()
        changed = workspace.git("status", "--porcelain", "-z", "--untracked-files=normal", "--", ".").split(
            "\0"
        )
    except NoRepository:
        return Commit("", "", dirty=True, missing="the workspace is in no git repository")
    # Two letters of state and a blank stand before the path.
    others = [line for line in changed if line and line[3:] != f"{prefix}{artifacts.PIPELINE_LOCK}"]
    missing = "" if digest else "nothing is committed yet"
    return Commit(digest, remote_url(workspace), bool(others), missing)


def remotes(workspace: Workspace) -> list[str]:
    """The names of the git remotes, `origin` first; none where there is no repository either."""
    try:
        found = workspace.git("remote").split()
    except NoRepository:
        return []
    return sorted(found, key=lambda name: (name != "origin", found.index(name)))


def remote_url(workspace: Workspace) -> str:
    """What others clone, from wherever they are, without a password; empty where there is no remote."""
    names = remotes(workspace)
    if not names:
        return ""
    return _absolute(without_password(workspace.git("remote", "get-url", names[0]).strip()), workspace.root)


def _absolute(url: str, root: Path) -> str:
    """The path that git reads from the workspace's folder, such as `../pets.git`, for those who clone elsewhere."""
    host, colon, _ = url.partition(":")
    is_remote = colon and "/" not in host  # git's own rule
    return url if is_remote else str((root / url).resolve()) if not Path(url).is_absolute() else url


def branch(workspace: Workspace) -> str:
    """The branch that is checked out; empty with a detached HEAD."""
    return workspace.git("symbolic-ref", "--short", "--quiet", "HEAD", none=1).strip()


def outer(folder: Path) -> Path | None:
    """The repository that a folder lies in without being its root, unless that one ignores the folder."""
    there = folder
    # The folder may not be made yet, and git runs in one that is.
    while not there.is_dir():
        there = there.parent
    try:
        root = Path(run(["git", "rev-parse", "--show-toplevel"], there, dict(os.environ)).strip())
    except NoRepository:
        return None
    # With a slash: of a folder that is not there git can't know that it is one.
    if root == folder or run(["git", "check-ignore", f"{folder}/"], root, dict(os.environ), none=1):
        return None
    return root


def refuse_nesting(folder: Path, ask: Callable[[str], bool] | None = None) -> None:
    """A repository within another is not in clones of the outer one.

    Args:
        folder: Where a repository would be made.
        ask: Asks a person whether it is meant so; None where there is nobody.

    Raises:
        UsageError: `folder` would be one, and nobody says that it is meant so.
    """
    around = outer(folder.resolve())
    if around is None:
        return
    about = f"{folder} lies inside the git repository {around}, whose clones would lack it"
    if ask is None or not ask(f"{about}. Make a repository of its own there?"):
        raise UsageError(
            f"{about}: make the workspace outside of it, or add its name to {around / '.gitignore'} first, "
            "or give --nested and add it as a submodule"
        )
