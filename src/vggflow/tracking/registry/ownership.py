"""Whose models these are: two workspaces on one server don't take each other's for their own.

The registered model of the candidates carries its workspace in a tag. A workspace is known by the first commit of its
history, which clones, moves and new remotes leave as it is, or by its git remote, where a shallow clone has no history.
"""

import json
import re
from dataclasses import asdict, dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel

from vggflow import artifacts
from vggflow.errors import UsageError
from vggflow.git_and_dvc.run import NoRepository
from vggflow.tracking.registry.registry import Registry
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

OWNER = "vggflow.workspace"


@dataclass(frozen=True)
class Owner:
    """A workspace as a registry knows it.

    Attributes:
        first: The first commit of its history; empty where that is not here.
        remote: Its git remote as host and path; empty where there is none.
        inside: Its folder in its repository; empty where that is the root.
        place: Where it is, for people.
    """

    first: str
    remote: str
    inside: str
    place: str

    def is_another(self, other: "Owner") -> bool:
        """Whether these are certainly two; what nobody can tell is taken for one."""
        firsts = bool(self.first and other.first)
        remotes = bool(self.remote and other.remote)
        same = (firsts and self.first == other.first) or (remotes and self.remote == other.remote)
        return (firsts or remotes) and not (same and self.inside == other.inside)


def owner(workspace: Workspace) -> Owner:
    """The workspace as it is here; a rehearsal belongs to the one that it rehearses."""
    if workspace.root.parent.name == artifacts.STATE.name:
        return owner(Workspace(workspace.root.parents[1]))
    try:
        inside = workspace.git("rev-parse", "--show-prefix").strip()
        url = git_state.remote_url(workspace)
        return Owner(_first(workspace), _plain(url), inside, url or str(workspace.root))
    except NoRepository:
        return Owner("", "", "", str(workspace.root))


def check(registry: Registry, workspace: Workspace) -> None:
    """Looks whether the registered models of this name are this workspace's, or nobody's yet.

    Raises:
        UsageError: they are another's.
    """
    model = _candidates(registry)
    if model is None:
        return
    ours = owner(workspace)
    told = model.tags.get(OWNER)
    theirs = Owner(**json.loads(told)) if told else _of_newest(registry.client, workspace, model.name)
    if theirs and ours.is_another(theirs):
        raise UsageError(
            f"the models called {registry.names.name!r} on this MLflow are those of {theirs.place}, and this workspace "
            f"is {ours.place}: give it another registry.name in params.yaml; where both are one, "
            "`vggflow models --adopt` takes them over"
        )


def claim(registry: Registry, workspace: Workspace, *, adopt: bool = False) -> bool:
    """Writes down that the models of this name are this workspace's, unless that is known; tells whether it was new.

    Args:
        registry: Where they are.
        workspace: Whose they are.
        adopt: Whether a person says so, whatever was known before.
    """
    model = _candidates(registry)
    if model is None:
        return False
    ours = owner(workspace)
    told = model.tags.get(OWNER)
    known = Owner(**json.loads(told)) if told else None
    # Known by its remote only, as a shallow clone writes it: who has the history adds the first commit.
    if known and not adopt and (known.first or not ours.first):
        return False
    registry.client.set_registered_model_tag(model.name, OWNER, json.dumps(asdict(ours), ensure_ascii=False))
    return known is None or adopt


def _candidates(registry: Registry) -> RegisteredModel | None:
    name = registry.names.candidates
    found = registry.client.search_registered_models(f"name = '{name}'", max_results=1)
    return found[0] if found else None


def _of_newest(client: MlflowClient, workspace: Workspace, name: str) -> Owner | None:
    """Whose candidates of an earlier vggflow are, by commit and remote of the newest; nothing where it may be ours."""
    found = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
    tags = found[0].tags if found else {}
    commit, remote = tags.get("git.commit", ""), tags.get("git.remote", "")
    if not commit or _has(workspace, commit):
        return None
    place = remote or f"a repository with commit {commit[:12]}"
    known = (
        "" if remote.startswith(".") else _plain(remote)
    )  # of a path from a folder nobody knows the folder
    return Owner(commit, known, owner(workspace).inside, place)


def _has(workspace: Workspace, commit: str) -> bool:
    try:
        there = ("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        return bool(workspace.git(*there, none=1).strip())
    except NoRepository:
        return False


def _first(workspace: Workspace) -> str:
    """The first commit of the history, empty where there is none, or only the end of one."""
    if workspace.git("rev-parse", "--is-shallow-repository").strip() == "true":
        return ""
    if not workspace.git("rev-parse", "--verify", "--quiet", "HEAD", none=1).strip():
        return ""
    # A history put together from several has several first commits; the oldest comes last.
    return workspace.git("rev-list", "--max-parents=0", "HEAD").split()[-1]


def _plain(url: str) -> str:
    """An address without how it is reached: `git@host:team/pets.git` and `https://host/team/pets` are one."""
    plain = re.sub(r"^[a-z+]+://", "", url).rpartition("@")[2].removesuffix("/").removesuffix(".git")
    # The colon of `git@host:team` is a slash elsewhere; `:22/` is a port.
    return re.sub(r"^([^/:]+):(?:\d+/)?", r"\1/", plain)
