"""What takes long to make, once for all tests: a Prefect server, a workspace with a champion."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vggflow.commands import register
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.tracking.registry import champions
from vggflow.workspace import Workspace, find


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server on a free port."""
    home = Workspace(tmp_path_factory.mktemp("prefect"))
    with servers.running(home, servers.prefect(servers.free_ports(1)[0])) as server:
        yield f"{server.url}/api"


@pytest.fixture(scope="session")
def with_champion(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a champion, which nobody had to judge; don't change it: copy it."""
    root = tmp_path_factory.mktemp("champion") / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    candidate, _ = register.register(find(root))
    registry = connection.connect(find(root))
    champions.claim(registry, candidate, champions.read(registry).state, {})
    assert champions.settle(registry).champion is not None
    return root


@pytest.fixture
def here(with_champion: Path, tmp_path: Path) -> Workspace:
    """A copy of it."""
    root = tmp_path / "tiny"
    shutil.copytree(with_champion, root, symlinks=True)
    connection.connect(find(root))  # says that the workspace was copied, once
    return find(root)
