"""10,050 candidates, more than MLflow gives at once: none is missed, and only what is asked for is read."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Mapper
from tiny import Ran, write_params

from vggflow.commands import models
from vggflow.tracking import connection, retention
from vggflow.tracking.registry import model_versions
from vggflow.workspace import Workspace

pytestmark = pytest.mark.slow
MANY = 10_050
TAGS = 25


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own database with rows as `vggflow register` leaves them; 250 seconds if it did, so by SQL."""
    root = tmp_path_factory.mktemp("many")
    write_params(root)
    workspace = Workspace(root)
    client = connection.connect(workspace).client
    client.create_registered_model("tiny-candidates")
    client.create_model_version("tiny-candidates", "/stored/model", tags={"data.hash": "data1"})
    with sqlite3.connect(root / ".vggflow/mlflow.db") as database:
        _repeat(database, "model_versions", "version", 1)
        _repeat(database, "model_version_tags", "version", 1)
        numbers = range(1, MANY + 1)
        insert = (
            "insert into model_version_tags (workspace, name, version, key, value) values (?, ?, ?, ?, ?)"
        )
        place = ("default", "tiny-candidates")
        for key in (model_versions.KEY, *(f"tag.{number}" for number in range(TAGS))):
            database.executemany(insert, [(*place, number, key, f"{key} {number}") for number in numbers])
        database.execute("update model_versions set run_id = printf('%032x', version)")
        database.execute("update model_version_tags set value = 'data' || version where key = 'data.hash'")
    client.set_registered_model_alias("tiny-candidates", model_versions.CHALLENGER, str(MANY))
    client.set_registered_model_alias("tiny-candidates", "first", "1")
    return root


def _repeat(database: sqlite3.Connection, table: str, key: str, first: int) -> None:
    """Copies the only row of a table, under other numbers."""
    columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
    others = ", ".join("n" if column == key else column for column in columns)
    database.execute(  # the names are MLflow's own
        f"with recursive numbers(n) as (select {first + 1} union all select n + 1 from numbers where n < {MANY}) "  # noqa: S608
        f"insert into {table} ({', '.join(columns)}) select {others} from {table}, numbers where {key} = {first}"
    )


@pytest.fixture
def here(filled: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(filled, tmp_path / "many")
    return Workspace(tmp_path / "many")


def test_no_version_is_missed_the_oldest_neither(here: Workspace) -> None:
    found = model_versions.versions(connection.connect(here).client, "tiny-candidates")
    assert [version.number for version in found] == list(range(1, MANY + 1))
    assert {v.number: v.aliases for v in found if v.aliases} == {1: ("first",), MANY: ("challenger",)}
    assert found[0].tags[model_versions.KEY] == f"{model_versions.KEY} 1" and len(found[-1].tags) == TAGS + 2


@pytest.fixture
def read() -> Iterator[list[object]]:
    """Every row that MLflow makes an object of."""
    found: list[object] = []

    def add(row: object, _: object) -> None:
        found.append(row)

    event.listen(Mapper, "load", add)
    yield found
    event.remove(Mapper, "load", add)


def test_one_version_is_found_without_reading_the_others(here: Workspace, read: list[object]) -> None:
    registry = connection.connect(here)
    client = registry.client
    first = model_versions.find_candidate(registry, f"{model_versions.KEY} 1")
    assert first is not None and (first.number, first.aliases) == (1, ("first",))
    assert (
        model_versions.version_of(client, "tiny-candidates", None, model_versions.CHALLENGER).number == MANY
    )
    assert (
        model_versions.version_of(client, "tiny-candidates", 7, "").tags[model_versions.KEY]
        == f"{model_versions.KEY} 7"
    )
    trained = model_versions.with_tag(client, "tiny-candidates", "data.hash", "data9")
    assert trained is not None and trained.number == 9
    assert model_versions.with_tag(client, "tiny-candidates", "data.hash", "data0") is None
    assert [each.number for each in model_versions.newest(client, "tiny-candidates", 2)] == [MANY, MANY - 1]
    assert 0 < len(read) < 1_000


def test_the_table_ends_with_the_oldest_candidate(here: Workspace) -> None:
    rows = models.model_rows(here)
    assert [rows[0]["version"], rows[-1]["version"], len(rows)] == [MANY, 1, MANY]


def test_the_table_has_the_newest_candidates_and_says_that_there_are_more(
    here: Workspace, read: list[object], vggflow: Callable[..., Ran]
) -> None:
    (here.root / "dvc.yaml").touch()
    ran = vggflow("-C", here.root, "models")
    assert ran.code == 0 and len(ran.out.splitlines()) == 1 + 50
    assert ran.out.splitlines()[1].split()[1] == str(MANY)
    assert "the 50 newest: --all shows the others too" in ran.err
    assert 0 < len(read) < 10_000
    assert len(vggflow("-C", here.root, "models", "--all").out.splitlines()) == 1 + MANY


def test_all_but_the_newest_may_go(here: Workspace) -> None:
    found = retention.old(connection.connect(here), keep=3)
    assert [found.versions[0].number, found.versions[-1].number] == [2, MANY - 3]
