"""Which version is champion, asked with one cheap request: without importing MLflow, which takes a second.

A server is asked over HTTP, as MLflow's own client does it, and SQLite by its tables. Where neither is certain to give
MLflow's own answer, as with a database of a team or another way of logging in, MLflow is to be asked.
"""

import configparser
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vggflow.environment import SQLITE
from vggflow.tracking.within import within

CHAMPION = "champion"
# Tag of a version: the digest of its exported graph.
GRAPH_SHA256 = "sha256.onnx"
# A person gets an answer, or why there is none, within ten seconds.
SECONDS = 5
QUESTION = "/api/2.0/mlflow/registered-models/alias"
# Ways of asking that only MLflow knows: another log-in, another of a server's workspaces.
ONLY_MLFLOW = (
    *("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    *("MLFLOW_WORKSPACE", "MLFLOW_REGISTRY_URI"),
)
CREDENTIALS = Path("~/.mlflow/credentials")


class AskMLflow(Exception):
    """The cheap request can't tell: MLflow's client is to be asked."""


class Away(Exception):
    """The registry does not answer; the message goes on after "MLflow at …"."""


@dataclass(frozen=True)
class Champion:
    """The champion as the registry names it; `sha256` is its graph's, empty where it has none."""

    number: int
    sha256: str


def title(name: str, number: int | None) -> str:
    """What people read of a version: `pets version 3`; of a file, which has no number, its name."""
    return name if number is None else f"{name} version {number}"


def ask(uri: str, name: str) -> Champion | None:
    """The champion of a registered model; None where there is none.

    Args:
        uri: Where MLflow is.
        name: Of the registered model.

    Raises:
        AskMLflow: only MLflow's client knows.
        Away: nothing answers within seconds.
    """
    if any(os.environ.get(variable) for variable in ONLY_MLFLOW):
        raise AskMLflow
    if uri.startswith(SQLITE):
        return _ask_sqlite(Path(uri.removeprefix(SQLITE)), name)
    if not uri.startswith(("http://", "https://")):
        raise AskMLflow
    try:
        return within(SECONDS + 1, lambda: _ask_server(uri, name))
    except TimeoutError:
        raise Away(f"does not answer within {SECONDS} s") from None


def _ask_server(uri: str, name: str) -> Champion | None:
    import requests

    try:
        answer = requests.get(
            uri.rstrip("/") + QUESTION,
            params={"name": name, "alias": CHAMPION},
            timeout=SECONDS,
            **_log_in(),
        )
        said = answer.json() if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else {}
    except requests.Timeout:
        raise Away(f"does not answer within {SECONDS} s") from None
    except requests.ConnectionError:
        raise Away("can't be reached") from None
    except requests.RequestException:  # an answer that is no JSON is one of these too
        raise AskMLflow from None
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Away(f"fails (HTTP {answer.status_code})")
    return _read(answer.status_code, said)


def _read(status: int, said: Any) -> Champion | None:
    if status == HTTPStatus.NOT_FOUND and said.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return None
    try:
        version = said["model_version"]
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
        return Champion(int(version["version"]), tags.get(GRAPH_SHA256, ""))
    # A refused log-in among others, of which MLflow's client says more.
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AskMLflow from None


def _log_in() -> dict[str, Any]:
    """As MLflow does it: name and password of the environment, else of a file, else a token."""
    file = configparser.ConfigParser()
    file.read(CREDENTIALS.expanduser())
    names = ("mlflow_tracking_username", "mlflow_tracking_password")
    user, password = (
        os.environ.get(name.upper()) or file.get("mlflow", name, fallback=None) for name in names
    )
    how: dict[str, Any] = {}
    if user and password:
        how["auth"] = (user, password)
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        how["headers"] = {"Authorization": f"Bearer {token}"}
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        how["verify"] = False
    elif bundle := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        how["verify"] = bundle
    return how


def _ask_sqlite(database: Path, name: str) -> Champion | None:
    query = (
        "SELECT a.version, t.value FROM registered_model_aliases a LEFT JOIN model_version_tags t "
        "ON t.name = a.name AND t.version = a.version AND t.key = ? WHERE a.name = ? AND a.alias = ?"
    )
    # Read-only: a database that is not there stays so, and nobody's transaction is waited for long.
    place = f"file:{quote(str(database.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(place, uri=True, timeout=SECONDS)) as connection:
            found = connection.execute(query, (GRAPH_SHA256, name, CHAMPION)).fetchall()
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise Away("is locked by another program") from None
        raise AskMLflow from None
    # Of several, as of several workspaces of one server, MLflow knows which is meant.
    if len(found) > 1:
        raise AskMLflow
    return Champion(int(found[0][0]), found[0][1] or "") if found else None
