"""Twenty promoters at once, each with a home and a folder of its own, on MLflow over PostgreSQL."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from database import over, postgresql

from vggflow.commands import register
from vggflow.processes import servers
from vggflow.tracking import connection
from vggflow.tracking.registry import champions, model_versions
from vggflow.workspace import Workspace, find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROMOTERS, ROUNDS = 20, 10


@pytest.fixture(scope="module")
def candidates(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace on a server over PostgreSQL, with a candidate for each promoter."""
    root = tmp_path_factory.mktemp("race") / "tiny"
    shutil.copytree(evaluated, root, ignore=shutil.ignore_patterns("mlflow.db"))
    workspace = find(root)
    with postgresql() as databases:
        server = over(servers.mlflow(workspace, servers.free_ports(1)[0]), databases.create("mlflow"))
        with servers.running(workspace, server) as running:
            os.environ["MLFLOW_TRACKING_URI"] = running.url
            try:
                first, _ = register.register(workspace)
                client = connection.connect(workspace).client
                for number in range(2, PROMOTERS + 1):
                    tags = {**first.tags, model_versions.KEY: f"candidate {number}"}
                    client.create_model_version(
                        first.name, first.uri, run_id=first.run_id, model_id=first.model_id, tags=tags
                    )
                yield workspace
            finally:
                del os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def promoters(candidates: Workspace, tmp_path: Path) -> Iterator[list["subprocess.Popen[str]"]]:
    started = []
    try:
        for number in range(1, PROMOTERS + 1):
            home = tmp_path / f"home{number}"
            home.mkdir()
            shutil.copytree(
                candidates.root, home / "tiny", ignore=shutil.ignore_patterns(".vggflow", ".git", ".dvc")
            )
            program = [
                sys.executable,
                str(Path(__file__).with_name("promoter.py")),
                str(home / "tiny"),
                str(number),
            ]
            environment = os.environ | {"HOME": str(home), "VGGFLOW_STATE": str(home / "state")}
            started.append(
                subprocess.Popen(
                    program,
                    env=environment,
                    cwd=home,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def step(promoters: list["subprocess.Popen[str]"]) -> list[str]:
    """Lets all go on at once, and returns what each says next."""
    for process in promoters:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return answers(promoters)


def answers(promoters: list["subprocess.Popen[str]"]) -> list[str]:
    said = []
    for process in promoters:
        assert process.stdout is not None and process.stderr is not None
        said.append(process.stdout.readline().strip() or process.stderr.read())
    return said


def test_of_twenty_promoters_exactly_one_wins_each_round(
    candidates: Workspace, promoters: list["subprocess.Popen[str]"]
) -> None:
    registry = connection.connect(candidates)
    assert answers(promoters) == ["ready"] * PROMOTERS
    for round_ in range(1, ROUNDS + 1):
        assert step(promoters) == ["judged"] * PROMOTERS
        ended = step(promoters)
        winners = [number for number, said in enumerate(ended, 1) if said == "promoted"]
        assert len(winners) == 1, "\n".join(said for said in ended if not said.startswith("refused"))
        others = [said for said in ended if said not in ("promoted", "already champion")]
        assert all(said.startswith("refused") and "was first" in said for said in others), "\n".join(
            said for said in others if not said.startswith("refused")
        )
        book = champions.read(registry)
        assert len(book.stack) == round_
        assert book.champion is not None
        assert book.champion.tags[champions.CANDIDATE] == str(winners[0])
        assert [v.number for v in book.versions if champions.CHAMPION in v.aliases] == [book.champion.number]
        assert [v.number for v in book.versions] == [v.number for v in book.stack]
