"""Which workspace this is, for everybody who asks the same Prefect server: its name, and where workers find it."""

import re
from dataclasses import dataclass
from pathlib import Path

from vggflow.versioning import git_state as repository
from vggflow.workspace import Workspace, find

TAG = "vggflow"


@dataclass(frozen=True)
class Identity:
    """A workspace as a server knows it.

    Attributes:
        name: For people, in the names of deployments, tags, events and limits.
        repository: What workers clone; empty where the workspace has no git remote.
        branch: The branch that they clone.
        folder: Where runs work where there is no git remote; else empty.
    """

    name: str
    repository: str
    branch: str
    folder: str

    @property
    def place(self) -> str:
        """The git remote, else the folder."""
        return self.repository or self.folder

    @property
    def tag(self) -> str:
        """What deployments and runs of this workspace carry."""
        return f"workspace:{self.name}"

    @property
    def check_tag(self) -> str:
        """What checks of its workers carry instead, so that none is told of, counted or shown as a run of it."""
        return f"worker-check:{self.name}"

    @property
    def limit(self) -> str:
        """The global concurrency limit that all retrainings of this workspace share."""
        return f"vggflow-{self.name}"

    @property
    def resource(self) -> str:
        """What events about this workspace are about."""
        return f"vggflow.workspace.{self.name}"


def identity(workspace: Workspace) -> Identity:
    """Reads the identity from git; a clone has the same one as the folder it comes from."""
    url = repository.remote_url(workspace)
    if not url:
        return Identity(_plain(workspace.name), "", "", str(workspace.root))
    # By the address: clones lie in folders of any name.
    return Identity(_plain(Path(url).name.removesuffix(".git")), url, repository.branch(workspace), "")


def identify() -> dict[str, str]:
    """The build step of `prefect.yaml`: the workspace that is deployed, for the other fields to refer to."""
    here = identity(find(Path()))
    return {
        "workspace_name": here.name,
        "repository": here.repository,
        "branch": here.branch,
        "folder": here.folder,
    }


def _plain(name: str) -> str:
    """Without the characters that Prefect or a shell would take for something else."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "workspace"
