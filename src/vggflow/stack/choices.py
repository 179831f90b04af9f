"""What a stack remembers between its starts: ports, passwords, and where its databases are.

Everything lies in `.vggflow/stack/` of the workspace. What holds a password is readable by its owner only.
"""

import json
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vggflow import artifacts, files
from vggflow.errors import UsageError, VggflowError
from vggflow.processes.servers import LOCALHOST
from vggflow.stack import postgres
from vggflow.workspace import Workspace

PORTS = ("mlflow", "prefect", "postgresql")
CHOICES, PASSWORDS = "choices.json", "passwords.json"
SECRETS = ("mlflow_admin", "mlflow_cookies", "prefect", "postgresql", "worker", "person")
# Below the ports that systems give to outgoing connections, so that a port stays ours while we are stopped.
FIRST_PORT, LAST_PORT = 20_000, 29_999


@dataclass(frozen=True)
class Choices:
    """What was chosen at the first start and holds for all later ones.

    Attributes:
        ports: Where each server listens, on this machine only.
        database: The major version of the PostgreSQL that holds MLflow's data; nothing means SQLite.
        prefect_in_postgresql: Whether Prefect's data is there too. It needs the extension `pg_trgm`.
    """

    ports: Mapping[str, int]
    database: int | None
    prefect_in_postgresql: bool

    def limits(self) -> list[str]:
        """What these databases can't do."""
        lines = []
        if not self.prefect_in_postgresql:
            lines.append(
                "Prefect is on SQLite, which locks when several flows run at once: for a team, install Debian's "
                "postgresql before the first `vggflow up`"
            )
        if self.database is None:
            lines.append("MLflow is on SQLite, which is enough for one person, not for a team")
        return lines


@dataclass(frozen=True)
class Place:
    """The stack of one workspace."""

    workspace: Workspace
    choices: Choices
    passwords: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return folder_of(self.workspace)

    def url(self, name: str) -> str:
        """The address of a server."""
        return f"http://{LOCALHOST}:{self.choices.ports[name]}"


def folder_of(workspace: Workspace) -> Path:
    """Where the stack of a workspace lies."""
    return workspace.path(artifacts.STATE) / "stack"


def open_place(workspace: Workspace) -> Place:
    """The stack as it was left, or a new one: free ports, new passwords, PostgreSQL where it can be had."""
    folder = folder_of(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    # PostgreSQL's account must get to its own folder inside, where we are root; every file here is private.
    folder.chmod(0o711 if postgres.account() else 0o700)
    for name in ("artifacts", "log", "prefect"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    passwords = _passwords(folder / PASSWORDS)
    choices = known_choices(workspace)
    if choices is None:
        choices = _choose(folder)
        files.write_json(folder / CHOICES, asdict(choices))
    return Place(workspace, choices, passwords)


def known_choices(workspace: Workspace) -> Choices | None:
    """What the first `vggflow up` chose; nothing where there was none."""
    path = folder_of(workspace) / CHOICES
    return Choices(**files.read_json(path)) if path.exists() else None


def check_ports(place: Place) -> None:
    """Sees that nobody else listens on the ports.

    Raises:
        VggflowError: somebody does.
    """
    used = [name for name in PORTS if name != "postgresql" or place.choices.database]
    for name in used:
        port = place.choices.ports[name]
        with socket.socket() as probe:
            # As servers do: connections of the last run that are still closing are nobody who listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCALHOST, port))
            except OSError:
                path = place.folder / CHOICES
                raise VggflowError(
                    f"port {port}, which this workspace's {name} had at its first start, is taken: end the program "
                    f"that listens there, or write another port into {path}"
                ) from None


def _passwords(path: Path) -> Mapping[str, str]:
    # A later vggflow may need one more: it is added, the others stay, since databases hold them already.
    known = json.loads(path.read_text()) if path.exists() else {}
    made = {name: known.get(name) or secrets.token_urlsafe(24) for name in SECRETS}
    if made != known:
        files.write_text(path, json.dumps(made, indent=2) + "\n", private=True)
    return made


def _choose(folder: Path) -> Choices:
    found = postgres.find(folder)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    return (
        Choices(ports, found.version, found.has_trigrams)
        if found
        else Choices(ports, None, prefect_in_postgresql=False)
    )


def free_ports(count: int) -> list[int]:
    """Ports for servers that keep them, on which nobody listens now.

    Raises:
        UsageError: there are not that many.
    """
    # By chance: ports of other workspaces look free while their servers are stopped.
    candidates = random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), 100)
    free = [port for port in candidates if is_free(port)][:count]
    if len(free) < count:
        raise UsageError(f"no free ports between {FIRST_PORT} and {LAST_PORT}: end what listens there")
    return free


def is_free(port: int) -> bool:
    """Whether nobody on this machine listens on a port."""
    with socket.socket() as probe:
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True
