"""The digits as a workspace, versioned like any other data."""

from pathlib import Path

from vggflow import artifacts
from vggflow import workspace as workspaces
from vggflow.sample import digits
from vggflow.workspace import Workspace

RECIPE = "digits"


def make(folder: Path) -> Workspace:
    """A workspace with the first delivery of the digits 5 to 9, and start weights made from 0 to 4."""
    workspace = workspaces.init(folder, RECIPE)
    settings = workspace.settings()
    digits.write_start_weights(workspace.root / settings.model.weights, settings)
    data = workspace.path(artifacts.DATA)
    digits.write_delivery(data, digits.FIRST)
    digits.write_unlabelled(data)
    workspace.dvc("add", "data", "weights")
    workspace.dvc("push", "data.dvc", "weights.dvc")
    message = "Data: handwritten digits 5 to 9, start weights from 0 to 4"
    workspaces.commit(workspace, ["data.dvc", "weights.dvc"], message)
    return workspace
