"""Whether MLflow answers at all, asked once and briefly: MLflow itself repeats for minutes, which suits a flow.

A person who waits at a command learns within seconds that a server is down, hangs, or has lost its database.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from vggflow.console import tell
from vggflow.environment import PATIENT, SQLITE, changed
from vggflow.errors import VggflowError
from vggflow.tracking.within import within

# What Prefect's workers tell the runs that they start.
PREFECT_RUN = "PREFECT__FLOW_RUN_ID"
# People are told within ten seconds, of which starting takes three on a slow machine; the thread that asks gets 1 more.
SECONDS = 6
TIMEOUT, RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Until the first bytes of a file: a server may bring all of a large model from its store before.
SECONDS_FOR_FILES = 60
# What takes longer is told.
SECONDS_UNTOLD = 3
# What SQLite says, and what it means.
LOCKED, BY_ANOTHER = "database is locked", "is locked by another program"
# The cheapest request that needs the server's database.
QUESTION = "/api/2.0/mlflow/registered-models/search"


def problem(uri: str, seconds: float = SECONDS) -> str:
    """What is wrong with MLflow there, as it goes on after "MLflow at …"; empty where it answers within seconds.

    A flow does not ask: it has time to wait until a server is back.
    """
    if _is_patient():
        return ""
    try:
        return within(seconds + 1, lambda: _ask(uri, seconds))
    except TimeoutError:
        return f"does not answer within {seconds:.0f} s"


@contextmanager
def waiting_for_files(what: str) -> Iterator[None]:
    """Within the block MLflow waits for the bytes of files as long as a person would, once; a flow has time.

    They come from a store behind the server, which may hang or be gone while the server answers.

    Args:
        what: What is waited for: it is told where that takes more than a moment.

    Raises:
        VggflowError: none came.
    """
    if _is_patient():
        yield
        return
    told = threading.Timer(SECONDS_UNTOLD, tell, [f"waiting for {what} from MLflow's store"])
    told.daemon = True
    told.start()
    began, seconds = time.monotonic(), os.environ.get(TIMEOUT, str(SECONDS_FOR_FILES))
    try:
        with changed({TIMEOUT: seconds, RETRIES: os.environ.get(RETRIES, "0")}):
            yield
    except MlflowException as error:
        # By the time: MLflow drops the reason, and says "ensure that the path is correct" of whatever went wrong.
        if time.monotonic() - began < float(seconds):
            raise
        raise VggflowError(
            f"MLflow answers, but gave nothing of {what} within {seconds} s: look at its artifact store"
        ) from error
    finally:
        told.cancel()


@contextmanager
def impatient() -> Iterator[None]:
    """Within the block a flow asks as a person does, who waits for the answer: briefly, and once."""
    given = {TIMEOUT: os.environ.get(TIMEOUT, str(SECONDS)), RETRIES: os.environ.get(RETRIES, "0")}
    with changed(given, removed=(PATIENT, PREFECT_RUN)):
        yield


def _is_patient() -> bool:
    return PATIENT in os.environ or PREFECT_RUN in os.environ


def _ask(uri: str, seconds: float) -> str:
    """What is wrong; empty where an answer came, even one that says no."""
    try:
        if uri.startswith(("http://", "https://")):
            return _ask_server(uri, seconds)
        # A database that is not there yet is no problem: MLflow makes it.
        if not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists():
            _ask_database(uri)
    except Exception as error:  # noqa: BLE001  # of requests, of urllib3, of a database's driver: each has its own tree
        said = str(error)
        if "timed out" in said:
            return f"does not answer within {seconds:.0f} s"
        if LOCKED in said:
            return BY_ANOTHER
        return (
            f"can't be reached ({_short(said.rpartition('Caused by ')[2])})"  # requests says the cause last
        )
    return ""


def _ask_server(uri: str, seconds: float) -> str:
    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    how: dict[str, Any] = {"max_retries": 0, "timeout": seconds, "raise_on_status": False}
    answer = http_request(credentials, QUESTION, "GET", params={"max_results": 1}, **how)  # type: ignore[no-untyped-call]
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"fails (HTTP {answer.status_code}: {_short(answer.text)})"
    return ""


def _ask_database(uri: str) -> None:
    # Nothing stays open: MLflow makes connections of its own.
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    sqlalchemy.inspect(engine).has_table("registered_models")


def _short(said: object) -> str:
    """One line of what somebody else said."""
    return " ".join(str(said).split())[:200]
