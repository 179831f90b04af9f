"""Where MLflow is: `MLFLOW_TRACKING_URI`, else SQLite in the workspace. Imports no MLflow."""

import os

from vggflow import artifacts
from vggflow.workspace import Workspace

SQLITE = "sqlite:///"
# Set by flows for what they start: they have time to wait until a server is back.
PATIENT = "VGGFLOW_PATIENT"


def tracking_uri(workspace: Workspace) -> str:
    """The address of the tracking server."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"{SQLITE}{workspace.path(artifacts.MLFLOW_DATABASE)}"
