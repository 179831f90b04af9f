"""Who the tracking server takes us for, where it knows users (MLflow's basic-auth app), and what they may do."""

from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vggflow.errors import LogInRefused, UsageError, VggflowError
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.registry.registry import Registry
from vggflow.tracking.users.roles import MODEL

CURRENT_USER = "/api/2.0/mlflow/users/current"
PERMISSION = "/api/3.0/mlflow/users/permissions/get"
OK, REFUSED, NOT_THERE = 200, (401, 403), 404
WRITES, MANAGES = ("EDIT", "MANAGE"), ("MANAGE",)


@dataclass(frozen=True)
class User:
    """Whom the server takes us for; an administrator may do everything."""

    name: str
    is_admin: bool


def current_user(client: MlflowClient) -> User | None:
    """The user that the server authenticates us as; None where it has no users, or there is no server.

    Raises:
        LogInRefused: the server does not take our name and password.
        VggflowError: it does not answer.
    """
    if not str(client.tracking_uri).startswith("http"):
        return None
    answer = _ask(client, CURRENT_USER, {})
    # Only the app with users has this address.
    if answer.status_code == NOT_THERE:
        return None
    if answer.status_code != OK:
        kind = LogInRefused if answer.status_code in REFUSED else VggflowError
        raise kind(
            f"MLflow did not say who is logged in (HTTP {answer.status_code}): set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD"
        )
    found = answer.json()["user"]
    return User(str(found["username"]), bool(found.get("is_admin")))


def refuse_unfit_role(registry: Registry, *, promotes: bool) -> None:
    """Whether this process may do what a retraining ends with, asked before its hours begin.

    Args:
        registry: Of the workspace.
        promotes: Whether the retraining changes what is in use, or leaves that to a person.

    Raises:
        UsageError: its user may not.
    """
    user = current_user(registry.client)
    if user is None or user.is_admin:
        return
    names = registry.names
    _refuse(
        registry.client,
        user.name,
        names.candidates,
        WRITES,
        "a retraining registers there: make it a trainer",
    )
    if promotes:
        todo = "promotion.approval is automatic: make it a promoter, or set promotion.approval to required"
        _refuse(registry.client, user.name, names.name, MANAGES, todo)


def _refuse(client: MlflowClient, user: str, model: str, enough: tuple[str, ...], todo: str) -> None:
    question = {"username": user, "resource_type": MODEL, "resource_id": model}
    answer = _ask(client, PERMISSION, question)
    # Servers of before have no such question; what they refuse is told when it comes to it.
    if answer.status_code != OK:
        return
    found = str(answer.json()["permission"])
    if found not in enough:
        raise UsageError(
            f"MLflow's user {user!r} has {found} on the model {model!r}, expected {' or '.join(enough)}, since {todo} "
            "(`python -m vggflow.tracking.users`, docs/operating.md)"
        )


def _ask(client: MlflowClient, path: str, question: dict[str, str]) -> Any:
    with mlflow_errors_as_one_line():
        credentials = get_default_host_creds(str(client.tracking_uri))  # type: ignore[no-untyped-call]
        return http_request(credentials, path, "GET", params=question, raise_on_status=False)  # type: ignore[no-untyped-call]
