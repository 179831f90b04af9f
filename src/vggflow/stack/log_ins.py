"""How the commands of a workspace find its own servers: `.vggflow/stack/env`."""

import os
import shlex
from pathlib import Path

from vggflow.console import tell
from vggflow.environment import user_name
from vggflow.files import write_text
from vggflow.processes.locks import if_free
from vggflow.stack.choices import Place, folder_of
from vggflow.workspace import Workspace

ADMINISTRATOR, WORKER, SERVE = "admin", "worker", "serve"
FILE = "env"
LOCK = "lock"
CONTAINERS = "containers"


def person() -> str:
    """The MLflow user of whoever runs this: their name on this machine."""
    name = user_name()
    # Else an account called `admin` would be MLflow's administrator, and get another password.
    return name if name not in (ADMINISTRATOR, WORKER, SERVE) else f"{name}-in-person"


def variables(place: Place, user: str, password: str) -> dict[str, str]:
    """What a program needs to use the servers as a certain user."""
    return {
        "MLFLOW_TRACKING_URI": place.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
        "PREFECT_API_URL": f"{place.url('prefect')}/api",
        "PREFECT_API_AUTH_STRING": prefect_login(place),
    }


def prefect_login(place: Place) -> str:
    """Prefect knows one name and password, and no users."""
    return f"{ADMINISTRATOR}:{place.passwords['prefect']}"


def write(place: Place) -> Path:
    """Writes the file that a shell can source, readable by its owner only."""
    path = place.folder / FILE
    found = variables(place, person(), place.passwords["person"])
    exported = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())
    write_text(path, exported, private=True)
    return path


def use(folder: Path) -> None:
    """Points this process at the workspace's own servers, if it has some and no others are named."""
    stack = folder_of(Workspace(folder.resolve()))
    # Not readable: it is another user's, and so are the log-ins in it.
    if not (stack / FILE).is_file() or not os.access(stack / FILE, os.R_OK):
        return
    words = shlex.split((stack / FILE).read_text())
    found = dict(word.split("=", 1) for word in words if "=" in word)
    for service in ("MLFLOW_TRACKING_", "PREFECT_API_"):
        # Address and password together: else ours would be sent to a server that the user named.
        if f"{service}{'URI' if 'MLFLOW' in service else 'URL'}" not in os.environ:
            os.environ |= {name: value for name, value in found.items() if name.startswith(service)}
    if os.environ.get("MLFLOW_TRACKING_URI") == found.get("MLFLOW_TRACKING_URI") and not is_running(stack):
        # MLflow's client would go on asking for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        tell(f"the servers of this workspace are not running: start them with `vggflow up` ({stack})")


def is_running(folder: Path) -> bool:
    """Whether `vggflow up` holds the stack in this folder, or Docker runs it, which starts it by itself."""
    if (folder / CONTAINERS).exists():
        return True
    with if_free(folder / LOCK) as free:
        return not free
