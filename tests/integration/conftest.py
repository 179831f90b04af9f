"""One Prefect server for all flows of the session."""

from collections.abc import Iterator

import pytest

from vggflow.processes import servers
from vggflow.workspace import Workspace


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server on a free port."""
    home = Workspace(tmp_path_factory.mktemp("prefect"))
    with servers.running(home, servers.prefect(servers.free_ports(1)[0])) as server:
        yield f"{server.url}/api"
