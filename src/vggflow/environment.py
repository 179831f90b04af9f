"""Every `VGGFLOW_…` variable with its meaning, and what the machine's environment says: places, addresses, names.

Credentials and addresses of other programs have those programs' names (`MLFLOW_TRACKING_URI`, `PREFECT_API_URL`).
"""

import getpass
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vggflow import artifacts
from vggflow.errors import UsageError

# For people and for the units that start workers.
STATE = "VGGFLOW_STATE"  # the folder of checkpoints and cached features; else the user's cache folder
LOCKS = "VGGFLOW_LOCKS"  # the folder of the locks of devices; else one for all users of the machine
FEATURES_GB = (
    "VGGFLOW_FEATURES_GB"  # what cached features may take on disk, in units of 10^9 bytes; 0 caches none
)
MLFLOW_URL = "VGGFLOW_MLFLOW_URL"  # MLflow's address for browsers, where it is another than that for programs
NOTIFY_URL = "VGGFLOW_NOTIFY_URL"  # where `vggflow deploy` lets Prefect tell people what happened
SERVE_TOKEN = "VGGFLOW_SERVE_TOKEN"  # noqa: S105 (what requests to `vggflow serve` have to bear)
TRAINING_HOSTS = "VGGFLOW_TRAINING_HOSTS"  # the processes that train together: `host:port,host2,…`, or `auto`
TRAINING_INDEX = "VGGFLOW_TRAINING_INDEX"  # which of them this is, from 0; else as its job counts it
# Set by vggflow for what it starts.
DRIVER = "VGGFLOW_DRIVER_PID"  # the process that a stage ends with
PROGRESS = "VGGFLOW_PROGRESS"  # the file into which a stage writes how far it is
PATIENT = "VGGFLOW_PATIENT"  # flows have time to wait until a server is back, people don't
FLOW_RUN = "VGGFLOW_FLOW_RUN_ID"  # the flow run that a stage belongs to, for its lineage
TRAINING_WATCHED = "VGGFLOW_TRAINING_WATCHED"  # this process trains, the one above tells how it ended
WORKSPACE = "VGGFLOW_WORKSPACE"  # the workspace whose servers `vggflow up` runs

SQLITE = "sqlite:///"


def tracking_uri(root: Path) -> str:
    """Where MLflow is, for the workspace at `root`: `MLFLOW_TRACKING_URI`, else SQLite in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root / artifacts.MLFLOW_DATABASE}"


def state_place() -> Path:
    """Where checkpoints and features belong: `VGGFLOW_STATE`, else the user's cache folder."""
    if given := os.environ.get(STATE):
        return Path(given)
    # Here, since a served model carries this module and does not require it.
    from platformdirs import user_cache_path

    return user_cache_path("vggflow")


def state_folder() -> Path:
    """The same, made if it was not there.

    Raises:
        UsageError: it can't be made or written: an account without a home, a file in its place.
    """
    folder = state_place()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = error.strerror or str(error)
        raise UsageError(
            f"{folder}, for checkpoints and features, can't be made ({said}): set {STATE} to a folder of yours"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder}, for checkpoints and features, can't be written: give it to {user_name()}, or set "
            f"{STATE} to a folder of yours"
        )
    return folder


@contextmanager
def changed(values: Mapping[str, str], removed: Iterable[str] = ()) -> Iterator[None]:
    """Within the block, variables of the environment are others or not set."""
    before = {name: os.environ.get(name) for name in (*values, *removed)}
    for name in removed:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def user_name() -> str:
    """The name of the account that runs this, or `uid-1234` where that has none, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # neither in the environment nor among the machine's users
        return f"uid-{os.getuid()}"
