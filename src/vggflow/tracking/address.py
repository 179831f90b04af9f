"""Where MLflow is: `MLFLOW_TRACKING_URI`, else SQLite in the workspace. Imports no MLflow."""

import os

from vggflow import artifacts
from vggflow.workspace import Workspace

SQLITE = "sqlite:///"


def tracking_uri(workspace: Workspace) -> str:
    """The address of the tracking server."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"{SQLITE}{workspace.path(artifacts.MLFLOW_DATABASE)}"
