"""Data that was versioned goes to the git remote, and nothing else with it."""

from contextlib import suppress
from dataclasses import dataclass

from vggflow.errors import UsageError, VggflowError
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

DATA_FILES = ("data.dvc", "weights.dvc")
SHOWN = 3


@dataclass(frozen=True)
class Commit:
    """A commit that the remote lacks: its short name, its subject and the files it changes."""

    name: str
    subject: str
    paths: frozenset[str]


def refuse_unpublishable(workspace: Workspace) -> None:
    """Called before anything is copied: a commit made now would reach nobody.

    Raises:
        UsageError: git is on no branch, in the middle of a merge, or behind its remote.
    """
    if not git_state.branch(workspace):
        raise UsageError(
            f"git is on no branch in {workspace.root} (detached HEAD), so a commit there reaches nobody: "
            "`git switch BRANCH`, then import again; nothing was copied"
        )
    if workspace.git("rev-parse", "--quiet", "--verify", "MERGE_HEAD", none=1):
        raise UsageError(
            f"a merge is not finished in {workspace.root}: `git commit` ends it, then import again; "
            "nothing was copied"
        )
    target = remote_of(workspace)
    if target:
        _fetch(workspace, target)
        if behind := _behind(workspace, target):
            raise UsageError(
                f"{git_state.branch(workspace)} lacks {behind} commit{'s' * (behind > 1)} of {target}: `git pull`, "
                "then import again; nothing was copied"
            )


def publish(workspace: Workspace, *, with_newest: bool = False) -> bool:
    """Pushes commits of data where there is a git remote; tells whether that lacked any.

    Args:
        workspace: Whose commits.
        with_newest: Whether the newest commit goes too, whatever it changes: who calls made it.

    Raises:
        UsageError: other commits would go with them.
        VggflowError: the remote can't be reached, or it moved meanwhile.
    """
    target = remote_of(workspace)
    commits = _unpushed(workspace, target) if target else []
    if target is None or not commits:
        return False
    if others := _others(workspace, target, commits[with_newest:]):
        shown = ", ".join(f"{each.name} {each.subject!r}" for each in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise UsageError(
            f"the data is committed here and on the DVC remote, but not pushed: {shown}{more} would go to {target} "
            "with it: `git push` sends all, or take them to another branch, then import again"
        )
    try:
        workspace.git("push", "--quiet", "--set-upstream", target, "HEAD")
    except VggflowError as error:
        # To tell a branch that moved from a remote that is away or says no.
        _fetch(workspace, target)
        if not _behind(workspace, target):
            raise
        branch = git_state.branch(workspace)
        raise VggflowError(
            f"the data is committed here and on the DVC remote, but not pushed: {branch} moved "
            f"on {target} meanwhile; `git pull`, and `vggflow data accept` if data.dvc conflicts, then `git push`"
        ) from error
    return True


def waiting(workspace: Workspace) -> str | None:
    """What stands between a committed delivery and the others, in one line; none where nothing does."""
    target = remote_of(workspace)
    if target is None or not git_state.branch(workspace) or not _branches(workspace, target):
        return None
    count = sum(bool(each.paths & _data_files(workspace)) for each in _unpushed(workspace, target))
    if not count:
        return None
    return (
        f"{count} commit{'s' * (count > 1)} of data not on {target} yet: `git push` sends them to the others"
    )


def remote_of(workspace: Workspace) -> str | None:
    """The git remote that data goes to."""
    return next(iter(git_state.remotes(workspace)), None)


def _fetch(workspace: Workspace, target: str) -> None:
    """Asks the remote for news; who is offline hears of it when pushing."""
    with suppress(VggflowError):
        workspace.git("fetch", "--quiet", target)


def _branches(workspace: Workspace, target: str) -> list[str]:
    return workspace.git("for-each-ref", "--format=%(refname)", f"refs/remotes/{target}").split()


def _behind(workspace: Workspace, target: str) -> int:
    theirs = f"refs/remotes/{target}/{git_state.branch(workspace)}"
    if theirs not in _branches(workspace, target):
        return 0
    return int(workspace.git("rev-list", "--count", theirs, "--not", "HEAD"))


def _unpushed(workspace: Workspace, target: str) -> list[Commit]:
    """The commits of the branch that no branch of the remote has, newest first."""
    # NUL before each commit: no subject and no name of a file holds one.
    shown = ("log", "--format=%x00%h%x01%s", "--name-only")
    # By default git writes names beyond ASCII in quotes and escapes.
    log = workspace.git("-c", "core.quotePath=false", *shown, "HEAD", "--not", f"--remotes={target}")
    return [_commit(each) for each in log.split("\0")[1:]]


def _commit(text: str) -> Commit:
    first, *paths = text.splitlines()
    name, _, subject = first.partition("\x01")
    return Commit(name, subject, frozenset(path for path in paths if path))


def _others(workspace: Workspace, target: str, commits: list[Commit]) -> list[Commit]:
    """Those that are no delivery; none at the first push of all, when the remote is to get everything."""
    if not _branches(workspace, target):
        return []
    # A merge names no files here, so it passes; the commits that it brought are looked at themselves.
    return [each for each in commits if each.paths - _data_files(workspace)]


def _data_files(workspace: Workspace) -> frozenset[str]:
    """What a delivery changes, as git calls it."""
    prefix = workspace.git("rev-parse", "--show-prefix").strip()
    return frozenset(prefix + name for name in DATA_FILES)
