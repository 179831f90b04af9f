"""Ten nights with new data each: what stays small, and what the history still knows."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from tiny import COLOURS, draw, draw_data, write_params

from vggflow import artifacts
from vggflow import workspace as workspaces
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.tracking.registry import champions, model_versions
from vggflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
NIGHTS, KEEP = 10, 3


def vggflow(root: Path, prefect_api: str, *arguments: str) -> str:
    own = {
        "PREFECT_API_URL": prefect_api,
        "VGGFLOW_STATE": str(root.parent / "state"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(root), *arguments]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def largest_process() -> float:
    """The most memory in MB that any ended process below this one had at once."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def server_memory() -> float:
    """What Prefect's server and what it started hold, in MB."""
    mine = psutil.Process().children(recursive=True)
    return sum(process.memory_info().rss for process in mine) / 1e6


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def flow_runs(prefect_api: str, tag: str) -> list[str]:
    """Ids of the workspace's runs that Prefect knows."""
    wanted = {"flow_runs": {"tags": {"all_": [tag]}}, "limit": 200}
    found = httpx.post(f"{prefect_api}/flow_runs/filter", json=wanted, trust_env=False, timeout=30)
    return [run["id"] for run in found.json()]


def shown_of(prefect_api: str) -> set[str]:
    """Runs that artifacts with this workspace's keys belong to."""
    wanted = {"artifacts": {"key": {"like_": "nights-"}}, "limit": 200}
    found = httpx.post(f"{prefect_api}/artifacts/filter", json=wanted, trust_env=False, timeout=30).json()
    return {each["flow_run_id"] for each in found}


def champion(workspace: Workspace) -> int:
    found = champions.read(connection.connect(workspace)).champion
    assert found is not None
    return found.number


@pytest.fixture
def prefect(tmp_path: Path) -> Workspace:
    """Where the Prefect server of these nights keeps its things."""
    return Workspace(tmp_path / "prefect")


@pytest.fixture
def prefect_api(prefect: Workspace) -> Iterator[str]:
    """The address of a Prefect server that serves nobody else, so that its growth is that of the nights."""
    with servers.running(prefect, servers.prefect(servers.free_ports(1)[0])) as server:
        yield f"{server.url}/api"


def test_ten_nights_stay_small_and_history_knows_who_was_champion(
    prefect_api: str,
    prefect: Workspace,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    root = tmp_path / "nights"
    # Every second night a fresh model replaces an equal one, so that there is a history to ask.
    write_params(root, promotion={"rule": "not_worse", "margin": 0.9, "approval": "required"})
    workspace = workspaces.init(root)
    vggflow(root, prefect_api, "data", "import", str(draw_data(tmp_path / "delivery")))
    promoted_versions: dict[int, tuple[datetime, int]] = {}
    sizes: dict[int, float] = {}
    states: dict[int, float] = {}
    finished: dict[int, list[str]] = {}
    prefects: dict[int, float] = {}
    memory: dict[int, tuple[float, float]] = {}
    for night in range(1, NIGHTS + 1):
        draw(tmp_path / f"night{night}" / "train" / "red" / f"night{night}.png", COLOURS["red"], 5000 + night)
        vggflow(root, prefect_api, "data", "import", str(tmp_path / f"night{night}"))
        assert "Awaiting approval" in vggflow(root, prefect_api, "retrain")
        if night % 2:
            vggflow(root, prefect_api, "promote", "--reason", f"night {night}", "--by", "ann")
        vggflow(root, prefect_api, "clean", "--keep", str(KEEP))
        promoted_versions[night] = (datetime.now(UTC), champion(workspace))
        sizes[night] = megabytes(root) - megabytes(root / "data")
        states[night] = megabytes(root.parent / "state")
        finished[night] = flow_runs(prefect_api, "workspace:nights")
        prefects[night] = megabytes(prefect.path(artifacts.PREFECT_HOME))
        memory[night] = (largest_process(), server_memory())
    assert len({number for _, number in promoted_versions.values()}) == NIGHTS // 2

    registry = connection.connect(workspace)
    client, names = registry.client, registry.names
    candidates = model_versions.versions(client, names.candidates)
    book = champions.read(registry)
    promoted = {version.run_id for version in book.stack}
    assert {version.run_id for version in candidates} == promoted | {v.run_id for v in candidates[-KEEP:]}
    stored = list(workspace.path(artifacts.MLFLOW_ARTIFACTS).rglob("model.keras"))
    assert len(stored) == len({version.run_id for version in candidates})
    # What grows is what history needs: each second night a promoted model with the code that loads it and its
    # exported graph, its run's reports and Data Docs, and the pages of three decisions.
    graphs = list(workspace.path(artifacts.MLFLOW_ARTIFACTS).rglob("model.onnx"))
    assert len(graphs) == len(stored)
    model, graph = ((path.stat().st_size / 1e6) for path in (root / "model/model.keras", graphs[0]))
    grown = sizes[NIGHTS] - sizes[NIGHTS - 4]
    assert grown < 2 * (model + graph + 3.0), sizes

    # Checkpoints and features of one kind: as many images more as there were nights.
    assert states[NIGHTS] - states[NIGHTS - 4] < 1.0, states
    # Prefect's database holds the newest runs and, for seven days, the events of all of them.
    assert prefects[NIGHTS] - prefects[NIGHTS - 4] < 2.0, prefects
    largest, serving = memory[NIGHTS]
    assert largest < 1.1 * memory[KEEP][0], memory
    assert serving < 1.1 * memory[KEEP][1], memory
    for name, figures in {"workspace": sizes, "state": states, "prefect": prefects, "memory": memory}.items():
        record_property(f"{name} in MB, by night", figures)
    assert {len(runs) for night, runs in finished.items() if night >= KEEP} == {KEEP}, (
        "Prefect keeps the newest"
    )
    assert shown_of(prefect_api) == set(finished[NIGHTS]), "artifacts of no run that is gone"

    asked, number = promoted_versions[7]
    rows = json.loads(vggflow(root, prefect_api, "models", "--history", "--json"))
    then = [row["version"] for row in rows if row["from"] <= asked.isoformat() and not _over(row, asked)]
    assert then == [number]


def _over(row: dict[str, str | None], asked: datetime) -> bool:
    return row["until"] is not None and row["until"] <= asked.isoformat()
