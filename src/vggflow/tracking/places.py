"""A workspace that was moved or copied: its MLflow database names artifacts by absolute addresses, which follow."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.tracking._tracking_service import utils as mlflow_caches

from vggflow import artifacts, console

# Every column in which MLflow 3 writes where artifacts lie.
COLUMNS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
SECONDS_TO_WAIT = 30.0


def follow_move(database: Path) -> None:
    """Artifacts are looked for, and written, beside the database, wherever that was when they were made.

    All in one transaction, so that a kill leaves either the old addresses or the new ones. Artifacts of a place that is
    still this one, by another path, stay as they are.

    Args:
        database: The workspace's `mlflow.db`; nothing happens where there is none yet.
    """
    if not database.is_file():
        return
    # MLflow remembers where a run's artifacts lie for as long as the process lives, and another process may rewrite it.
    mlflow_caches._artifact_repos_cache.clear()
    here = database.parent / artifacts.MLFLOW_ARTIFACTS.name
    # Without Python's own transactions, which begin only at the first change.
    with closing(sqlite3.connect(database, timeout=SECONDS_TO_WAIT, isolation_level=None)) as connection:
        # Looked at without a lock first, since nearly always nothing has moved.
        if not (moved := _elsewhere(connection, here)):
            return
        connection.execute("BEGIN IMMEDIATE")
        moved = _elsewhere(connection, here)  # another process may have been faster
        for before in moved:
            for table, column in _present(connection):
                _rewrite(connection, table, column, before, here.as_uri())
        connection.execute("COMMIT")
    if moved:
        console.tell(f"the workspace was moved or copied: MLflow's artifacts are looked for in {here} now")


def _elsewhere(connection: sqlite3.Connection, here: Path) -> list[str]:
    """The beginnings of addresses that name the artifacts of another workspace folder: this one, before it moved."""
    end = f"/{artifacts.MLFLOW_ARTIFACTS}"
    found: set[str] = set()
    for table, column in _present(connection):
        query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:%{end}%'"  # noqa: S608 (our names)
        found |= {address[: address.index(end) + len(end)] for (address,) in connection.execute(query)}
    return sorted(address for address in found if address != here.as_uri() and _has_moved(address, here))


def _has_moved(address: str, here: Path) -> bool:
    """Whether what lay there lies here: it is gone there, or was copied together with the database."""
    there = Path(unquote(urlsplit(address).path))
    if not there.exists():
        return True
    # By inode: one folder may have two paths, as behind a link.
    return here.exists() and not there.samefile(here)


def _rewrite(connection: sqlite3.Connection, table: str, column: str, before: str, after: str) -> None:
    connection.execute(
        # No LIKE and no replace(): a path may hold % and _, or its own beginning a second time.
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
        (after, len(before) + 1, len(before), before),
    )


def _present(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The columns that this version of MLflow has."""
    found = []
    for table, column in COLUMNS:
        names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if column in names:
            found.append((table, column))
    return found
