"""What takes long to make, once for all tests: a Prefect server, a workspace with a champion."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vggflow.commands import prepare, register
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


@pytest.fixture(scope="module")
def shared(versioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace `ann`, its git remote and a clone `bob` that has the data; copy it."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(versioned, folder / "ann", symlinks=True)
    _share(folder)
    return folder


def _share(folder: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder / "team.git"], check=True)
    ann = find(folder / "ann")
    ann.git("remote", "add", "origin", "../team.git")
    ann.dvc("remote", "modify", "--quiet", "local", "url", "../../team.dvc")
    ann.git("commit", "--quiet", "--all", "--message", "One DVC remote for both")
    ann.dvc("push", "--quiet", "data.dvc", "weights.dvc")
    ann.git("push", "--quiet", "--set-upstream", "origin", "main")
    subprocess.run(["git", "clone", "--quiet", "team.git", "bob"], cwd=folder, check=True)
    for name in ("ann", "bob"):
        here = find(folder / name)
        here.git("config", "user.email", f"{name}@example.org")
        here.git("config", "user.name", name)
        here.git("remote", "set-url", "origin", "../team.git")
        prepare.prepare(here)


@pytest.fixture
def both(shared: Path, tmp_path: Path) -> tuple[Workspace, Workspace]:
    """Ann's and Bob's workspaces, equal and up to date."""
    root = tmp_path / "team"
    shutil.copytree(shared, root, symlinks=True)
    return find(root / "ann"), find(root / "bob")
