"""A connection to MLflow, and its errors in one line."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds
from requests import HTTPError

from vggflow import artifacts
from vggflow.credentials import without_password
from vggflow.environment import SQLITE, tracking_uri
from vggflow.errors import LogInRefused, VggflowError
from vggflow.settings import RegistrySettings
from vggflow.tracking import places, reachable
from vggflow.tracking.registry import ownership
from vggflow.tracking.registry.registry import Registry
from vggflow.workspace import Workspace


def connect(workspace: Workspace, names: RegistrySettings | None = None) -> Registry:
    """This workspace's models on its tracking server, which MLflow's own functions use from then on.

    Args:
        workspace: Whose.
        names: What they are called, where the settings were read already.

    Raises:
        VggflowError: it does not answer within seconds, which only a flow waits longer for.
        UsageError: the registered models of this workspace's name are another workspace's.
    """
    registry = connect_unchecked(workspace, names)
    with mlflow_errors_as_one_line():
        ownership.check(registry, workspace)
    return registry


def connect_unchecked(workspace: Workspace, names: RegistrySettings | None = None) -> Registry:
    """The same, for a person who says whose the models are."""
    names = names or workspace.settings().registry
    # Else bars and links appear between the lines of our own.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Else MLflow's client asks the store behind the server, by the server's address for it: people can't reach it.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    uri = tracking_uri(workspace.root)
    _tell_mlflow(uri)
    if problem := reachable.problem(uri):
        todo = "wait for it" if problem == reachable.BY_ANOTHER else "start it, or mend MLFLOW_TRACKING_URI"
        raise VggflowError(f"MLflow at {without_password(uri)} {problem}: {todo}")
    if uri.startswith(SQLITE):
        workspace.path(artifacts.STATE).mkdir(parents=True, exist_ok=True)
        _follow_move(uri)
    with mlflow_errors_as_one_line():
        return Registry(MlflowClient(tracking_uri=uri, registry_uri=uri), names)


def _follow_move(uri: str) -> None:
    try:
        places.follow_move(Path(uri.removeprefix(SQLITE)).resolve())
    except sqlite3.Error as error:
        said = (
            f"{reachable.BY_ANOTHER}: wait for it" if reachable.LOCKED in str(error) else f"fails ({error})"
        )
        raise VggflowError(f"MLflow at {uri} {said}") from error


def _tell_mlflow(uri: str) -> None:
    """MLflow writes the address into the environment, where it would pass as the user's for the next workspace."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    given = {name: os.environ[name] for name in names if name in os.environ}
    mlflow.set_tracking_uri(uri)
    # Else MLFLOW_REGISTRY_URI in the environment would lead MLflow's own functions to another registry.
    mlflow.set_registry_uri(uri)
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(given)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment's id; the experiment is made if there is none."""
    with mlflow_errors_as_one_line():
        found = client.get_experiment_by_name(name)
        # A deleted experiment keeps its name, so none of that name can be made.
        if found is not None and found.lifecycle_stage == "deleted":
            raise VggflowError(
                f"experiment {name!r} is deleted on the server: restore it, or name another one"
            )
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location()))
        except MlflowException as error:  # somebody else made it in the meantime
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return experiment_id(client, name)


def _artifact_location() -> str | None:
    """Beside the database where there is no server; a server knows its own place."""
    # MLflow's own choice is `./mlruns`, below whatever folder the command was called in.
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / artifacts.MLFLOW_ARTIFACTS.name).as_uri()


@contextmanager
def mlflow_errors_as_one_line() -> Iterator[None]:
    """Turns what MLflow raises into one line that says where it was asked, and what a refused log-in may do."""
    try:
        yield
    except (MlflowException, HTTPError) as error:  # files come with errors of their own
        said = " ".join(str(error).split())
        where = f"MLflow at {without_password(mlflow.get_tracking_uri())}"
        if refusal := _refusal(said):
            raise LogInRefused(f"{where} {refusal}") from error
        raise VggflowError(f"{where} said: {said[:300]}") from error


def _refusal(said: str) -> str | None:
    """What 401 and 403 mean; nothing where the server said something else."""
    found = re.search(r"\b(401|403) Client Error|error code (401|403)\b", said)
    if not found or "Host header" in said:  # a server that was not told its name answers 403 too
        return None
    user = read_mlflow_creds().username
    if "401" in found[0]:
        return (
            f"does not know user {user!r} with this password: ask its administrator for another"
            if user
            else "wants to know who asks: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return (
        f"does not let user {user!r} do this: readers only look, trainers register candidates, promoters change what "
        "is in use; ask its administrator for the role (docs/operating.md)"
    )
