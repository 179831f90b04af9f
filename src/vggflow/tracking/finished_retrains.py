"""What was retrained to the end: so a request for the same again is answered before any data is pulled."""

import hashlib
from pathlib import PurePosixPath as Path

from vggflow import artifacts, files, version
from vggflow.git_and_dvc import dvc_file
from vggflow.tracking.connection import connect, mlflow_errors_as_one_line
from vggflow.tracking.registry import champions, model_versions
from vggflow.tracking.registry.lineage import EVALUATION
from vggflow.tracking.registry.model_versions import Version
from vggflow.tracking.registry.registry import Registry
from vggflow.workspace import Workspace

FINISHED_WITH = "vggflow.settled"


def inputs(workspace: Workspace) -> str:
    """The digest of all that a retraining starts from, readable in a clone without its data."""
    parts = [
        version.text(workspace.settings().train.backend),
        *(_digest(workspace, name) for name in (artifacts.PARAMS, artifacts.PIPELINE)),
    ]
    for tracked in (artifacts.DATA, artifacts.WEIGHTS):
        entry = workspace.path(tracked.with_suffix(".dvc"))
        found = dvc_file.read(entry)
        parts.append(found.md5 if found else "none")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def mark(registry: Registry, workspace: Workspace, candidate: Version, began_with: str) -> None:
    """Remembers that a retraining from these inputs ended with this candidate, under the champion of now.

    Args:
        began_with: The `inputs` when it began. Where they are others by now nothing is remembered: of what stands
            in the files now nobody knows what it would have given.
    """
    if inputs(workspace) != began_with:
        return
    value = f"{began_with} {champions.read(registry).state}"
    if candidate.tags.get(FINISHED_WITH) != value:
        with mlflow_errors_as_one_line():
            registry.client.set_model_version_tag(candidate.name, str(candidate.number), FINISHED_WITH, value)


def find(workspace: Workspace) -> Version | None:
    """The candidate that a retraining from the same inputs ended with, if the champion is still the same."""
    registry = connect(workspace)
    value = f"{inputs(workspace)} {champions.read(registry).state}"
    return model_versions.with_tag(registry.client, registry.names.candidates, FINISHED_WITH, value)


def is_known(workspace: Workspace, data: str) -> bool:
    """Whether a candidate was trained or measured on the data with this DVC hash."""
    registry = connect(workspace)
    keys = ("data.hash", f"{EVALUATION}data.hash")
    return any(model_versions.with_tag(registry.client, registry.names.candidates, key, data) for key in keys)


def _digest(workspace: Workspace, name: Path) -> str:
    return files.text_sha256(workspace.path(name))
