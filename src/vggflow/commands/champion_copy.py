"""The champion's exported graph, kept in the workspace: it answers without MLflow, also while the registry is away."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggflow import artifacts, files
from vggflow.console import tell
from vggflow.credentials import without_password
from vggflow.environment import tracking_uri
from vggflow.errors import VggflowError
from vggflow.tracking.registry import champion_alias
from vggflow.workspace import Workspace

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version

FOLDER = artifacts.STATE / "champion"
KEPT = "champion.json"


@dataclass(frozen=True)
class Copy:
    """A graph that was the champion's when it was last asked for.

    Attributes:
        registry: A digest of the address that it came from, which may hold a password.
        name: Of the registered model.
        number: Of its version.
        sha256: Of the graph.
    """

    registry: str
    name: str
    number: int
    sha256: str

    @property
    def title(self) -> str:
        """What it is called: `pets version 3`."""
        return champion_alias.title(self.name, self.number)

    def path(self, workspace: Workspace) -> Path:
        """Where the graph lies. By its digest: who is reading the one before goes on reading it."""
        return workspace.path(FOLDER) / f"{self.sha256}.onnx"


def current(workspace: Workspace, name: str) -> Copy | None:
    """The copy, where it is the champion's, or the registry does not answer; None where MLflow is to be asked.

    Args:
        workspace: Whose.
        name: Of the registered model.
    """
    uri = tracking_uri(workspace.root)
    kept = _read(workspace)
    if kept is None or (kept.registry, kept.name) != (_digest(uri), name):
        return None
    try:
        champion = champion_alias.ask(uri, name)
    except champion_alias.AskMLflow:
        return kept if _is_away(uri, kept) else None
    except champion_alias.Away as away:
        _say_away(uri, str(away), kept)
        return kept
    return kept if champion == champion_alias.Champion(kept.number, kept.sha256) else None


def _is_away(uri: str, kept: Copy) -> bool:
    from vggflow.tracking import reachable

    problem = reachable.problem(uri)
    if problem:
        _say_away(uri, problem, kept)
    return bool(problem)


def _say_away(uri: str, problem: str, kept: Copy) -> None:
    tell(f"MLflow at {without_password(uri)} {problem}: {kept.title} answers, the champion when last asked")


@contextmanager
def fetched(workspace: Workspace, version: "Version") -> Iterator[Path | None]:
    """The graph of a version that MLflow says is champion, for the time of the block, kept for the next time.

    None where it has no graph, as a version of before there were any.
    """
    from vggflow.tracking.registry import model_versions

    sha256 = version.tags.get(champion_alias.GRAPH_SHA256)
    if not sha256:
        yield None
        return
    copy = Copy(_digest(tracking_uri(workspace.root)), version.name, version.number, sha256)
    if _is_whole(copy, workspace):
        # Another version with the same graph, or the same one on another address.
        _keep(workspace, copy)
        yield copy.path(workspace)
        return
    with model_versions.graph_file(version) as graph:
        # Where it can't be kept, on a full disk or a read-only one, it answers all the same.
        with suppress(OSError, VggflowError):
            with files.replacing(copy.path(workspace)) as beside:
                beside.write_bytes(graph.read_bytes())
            _keep(workspace, copy)
        yield graph


def _keep(workspace: Workspace, copy: Copy) -> None:
    folder = workspace.path(FOLDER)
    with suppress(OSError, VggflowError):
        files.write_json(folder / KEPT, asdict(copy))
        # Last: what the file above names is there at every moment.
        for graph in folder.glob("[0-9a-f]*.onnx"):
            if graph != copy.path(workspace):
                graph.unlink(missing_ok=True)


def _read(workspace: Workspace) -> Copy | None:
    """What is kept, where it is whole."""
    with suppress(OSError, ValueError, TypeError):
        copy = Copy(**files.read_json(workspace.path(FOLDER) / KEPT))
        return copy if _is_whole(copy, workspace) else None
    return None


def _is_whole(copy: Copy, workspace: Workspace) -> bool:
    with suppress(OSError):
        return files.sha256(copy.path(workspace)) == copy.sha256
    return False


def _digest(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()
