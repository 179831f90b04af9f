"""Who the tracking server takes us for, where it knows users (MLflow's basic-auth app)."""

from mlflow import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vggflow.errors import VggflowError
from vggflow.tracking.connection import mlflow_errors_as_one_line

CURRENT_USER = "/api/2.0/mlflow/users/current"


def current_user(client: MlflowClient) -> str | None:
    """The user that the server authenticates us as; None where it has no users, or there is no server.

    Raises:
        VggflowError: the server does not take our name and password, or does not answer.
    """
    uri = str(client.tracking_uri)
    if not uri.startswith("http"):
        return None
    with mlflow_errors_as_one_line():
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        answer = http_request(credentials, CURRENT_USER, "GET", raise_on_status=False)  # type: ignore[no-untyped-call]
    # Only the app with users has this address.
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise VggflowError(
            f"MLflow did not say who is logged in (HTTP {answer.status_code}): set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD"
        )
    return str(answer.json()["user"]["username"])
