"""A tracking server, and what a workspace calls its models there."""

from dataclasses import dataclass

from mlflow import MlflowClient

from vggflow.settings import RegistrySettings


@dataclass(frozen=True)
class Registry:
    """What a command opens once and hands on (`connection.connect`).

    Attributes:
        client: The tracking server.
        names: What the workspace's models and its experiment are called there.
    """

    client: MlflowClient
    names: RegistrySettings
