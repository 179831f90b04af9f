"""`vggflow up --containers`: the servers of `infra/compose.yaml`, with what only a workspace knows."""

import hashlib
import itertools
import os
import re
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import dotenv

from vggflow.console import say, tell
from vggflow.errors import UsageError, VggflowError
from vggflow.files import write_text
from vggflow.git_and_dvc import dvc_remotes
from vggflow.processes import nvidia_smi
from vggflow.stack import after_start, log_ins
from vggflow.stack.choices import Choices, Place, free_ports, is_free
from vggflow.versioning import git_state
from vggflow.workspace import Workspace

COMPOSE, COMPOSE_FOR_GPUS, ENV, EXAMPLE = "compose.yaml", "compose.gpu.yaml", ".env", "env.example"
# With the address for browsers that holds it.
PORTS = {"MLFLOW_PORT": "MLFLOW_URL", "PREFECT_PORT": "PREFECT_URL", "STORAGE_PORT": None}
SECRETS = (
    *(
        "POSTGRES_PASSWORD",
        "MLFLOW_ADMIN_PASSWORD",
        "MLFLOW_COOKIE_SECRET",
        "WORKER_PASSWORD",
        "PERSON_PASSWORD",
    ),
    *("STORAGE_ACCESS_KEY", "STORAGE_SECRET_KEY", "WORKER_ACCESS_KEY", "WORKER_SECRET_KEY"),
    *("PERSON_ACCESS_KEY", "PERSON_SECRET_KEY", "STORAGE_SIGNING_KEY", "SERVE_PASSWORD", "SERVE_TOKEN"),
)
LOGIN = "PREFECT_LOGIN"
# What workers are made anew for.
SECRETS_OF_WORKERS = (
    *("WORKER_PASSWORD", "WORKER_ACCESS_KEY", "WORKER_SECRET_KEY", LOGIN),
    *("GIT_KEY", "GIT_KNOWN_HOSTS", "GIT_CREDENTIALS"),
)
# Contents of `configs`, and secrets from the environment, came with it.
OLDEST_COMPOSE = (2, 24)
BUCKET = "s3://dvc/"
PROJECT, PROJECT_LABEL = "COMPOSE_PROJECT_NAME", "com.docker.compose.project"
# Building images and the first migrations of two databases included.
SECONDS_TO_START = 1800


def up(workspace: Workspace, infra: Path, *, show_passwords: bool = False) -> int:
    """Builds and starts the containers, gives users their roles and says where all is; returns the exit code.

    Run again, it starts what is down, and nothing else changes: passwords and ports stay.

    Args:
        workspace: Whose models' roles are made, and whose commands use these servers from then on.
        infra: The folder `infra` of a checkout of vggflow, which holds `compose.yaml`.
        show_passwords: Whether they are printed.

    Raises:
        UsageError: that is no such folder, Docker or Compose is missing or old, or Prefect's log-in is not written so.
        VggflowError: an image could not be built, or a server did not start.
    """
    compose = _compose(infra)
    settings = fill_in(infra, workspace)
    place = place_of(workspace, settings)
    tell("building images and starting containers; the first time takes some minutes")
    _run(compose, settings, "up", "--build", "--detach", "--wait", f"--wait-timeout={SECONDS_TO_START}")
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    after_start.set_users_up(place)
    after_start.make_work_pool(place)
    write_text(place.folder / log_ins.CONTAINERS, f"{infra.resolve()}\n")
    after_start.announce(place, infra / ENV, show_passwords=show_passwords)
    for line in _give_keys(workspace, settings):
        say(line)
    for line in _unreachable(workspace, settings):
        say(f"note     {line}")
    say(f"stop     {' '.join(compose)} stop")
    return 0


def _compose(infra: Path) -> list[str]:
    if not (infra / COMPOSE).is_file():
        raise UsageError(f"{infra} holds no {COMPOSE}: name the folder `infra` of a checkout of vggflow")
    said = _asked("compose", "version", "--short")
    if tuple(map(int, re.findall(r"\d+", said)[:2])) < OLDEST_COMPOSE:
        raise UsageError(
            f"`docker compose` is {said or 'missing'} here: install Docker with Compose 2.24 or later, or use "
            "`vggflow up` without containers"
        )
    if not _asked("info", "--format", "{{.ServerVersion}}"):
        raise UsageError("Docker's daemon does not answer: start it, or name it in DOCKER_HOST")
    command = ["docker", "compose", "-f", str(infra / COMPOSE)]
    return [*command, "-f", str(infra / COMPOSE_FOR_GPUS)] if nvidia_smi.gpus() else command


def _asked(*words: str) -> str:
    """What `docker` prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(compose: list[str], settings: Mapping[str, str], *arguments: str) -> None:
    secret = "\0".join(settings.get(name, "") for name in SECRETS_OF_WORKERS)
    digest = {"WORKER_SECRETS_DIGEST": hashlib.sha256(secret.encode()).hexdigest()}
    done = subprocess.run([*compose, *arguments], env=os.environ | digest, check=False)
    if done.returncode != 0:
        raise VggflowError(
            "the containers are not up; Docker's reason stands above, and what a container said is in "
            f"`{' '.join([*compose, 'logs', '--tail', '50'])}`"
        )


def fill_in(infra: Path, workspace: Workspace) -> Mapping[str, str]:
    """`infra/.env`, made from the example where it is missing; what is empty there and can be made is filled in."""
    path = infra / ENV
    if not path.exists():
        write_text(path, (infra / EXAMPLE).read_text("utf-8"), private=True)
        for name, url in PORTS.items():
            _choose_port(path, name, url)
        _choose_name(path)
    path.chmod(0o600)
    found = _read(path)
    made = {name: secrets.token_urlsafe(24) for name in SECRETS if not found.get(name)}
    if not found.get(LOGIN):
        made[LOGIN] = f"{log_ins.ADMINISTRATOR}:{secrets.token_urlsafe(24)}"
    reached, host = found.get("WORKERS_MAY_REACH", "").split(), git_host(git_state.remote_url(workspace))
    if host and host not in reached:  # another workspace's may be there
        made["WORKERS_MAY_REACH"] = " ".join([*reached, host])
    for name, value in made.items():
        dotenv.set_key(path, name, value, quote_mode="auto")
    return _read(path)


def _choose_port(path: Path, name: str, url: str | None) -> None:
    """Another port where the usual one is taken, and in the address for browsers too."""
    usual = int(_read(path)[name])
    if is_free(usual):
        return
    chosen = free_ports(1)[0]
    dotenv.set_key(path, name, str(chosen), quote_mode="never")
    if url:
        dotenv.set_key(path, url, f"http://localhost:{chosen}", quote_mode="never")


def _choose_name(path: Path) -> None:
    """Another one where containers or volumes of another stack have the usual one: it would take them over."""
    usual = os.environ.get(PROJECT) or _read(path)[PROJECT]
    label = f'{{{{.Label "{PROJECT_LABEL}"}}}}'
    listed = [_asked("ps", "--all", "--format", label), _asked("volume", "ls", "--format", label)]
    taken = {name for names in listed for name in names.splitlines()}
    chosen = next(
        name
        for number in itertools.count(1)
        if (name := usual if number == 1 else f"{usual}-{number}") not in taken
    )
    if chosen != usual:
        tell(f"{usual} is another stack on this machine: this one is called {chosen}")
    dotenv.set_key(path, PROJECT, chosen, quote_mode="never")


def _read(path: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv.dotenv_values(path, interpolate=False).items()}


def place_of(workspace: Workspace, settings: Mapping[str, str]) -> Place:
    """The stack as `vggflow up` knows it: addresses and log-ins.

    Raises:
        UsageError: Prefect's log-in is not `admin:PASSWORD`.
    """
    ports = {"mlflow": int(settings["MLFLOW_PORT"]), "prefect": int(settings["PREFECT_PORT"])}
    name, _, prefect = settings[LOGIN].partition(":")
    if name != log_ins.ADMINISTRATOR or not prefect:
        raise UsageError(f"{LOGIN} in infra/.env is not {log_ins.ADMINISTRATOR}:PASSWORD: write it so")
    passwords = {
        "mlflow_admin": settings["MLFLOW_ADMIN_PASSWORD"],
        "prefect": prefect,
        "worker": settings["WORKER_PASSWORD"],
        "person": settings["PERSON_PASSWORD"],
        log_ins.SERVE: settings["SERVE_PASSWORD"],
    }
    return Place(workspace, Choices(ports, database=18, prefect_in_postgresql=True), passwords)


def git_host(url: str) -> str:
    """Host and port of a git remote, as WORKERS_MAY_REACH wants them: `github.com:22`; empty for a folder."""
    if (short := re.fullmatch(r"(?:[^@/:]+@)?([^/:]+):(?!//).*", url)) is not None:  # USER@HOST:PATH
        return f"{short[1]}:22"
    parts = urlsplit(url)
    usual = {"ssh": 22, "https": 443, "http": 80, "git": 9418}.get(parts.scheme)
    return f"{parts.hostname}:{parts.port or usual}" if parts.hostname and usual else ""


def _give_keys(workspace: Workspace, settings: Mapping[str, str]) -> list[str]:
    """The person's own keys for DVC remotes in the store, in `.dvc/config.local`, which git ignores."""
    given = {
        "endpointurl": f"http://127.0.0.1:{settings['STORAGE_PORT']}",
        "access_key_id": settings["PERSON_ACCESS_KEY"],
        "secret_access_key": settings["PERSON_SECRET_KEY"],
    }
    remotes = [remote.name for remote in dvc_remotes.remotes(workspace.root) if remote.url.startswith(BUCKET)]
    for remote in remotes:
        for option, value in given.items():
            workspace.dvc("remote", "modify", "--local", remote, option, value)
        (workspace.root / ".dvc" / "config.local").chmod(0o600)
    return [f"DVC      remote {remote}: its keys are in .dvc/config.local" for remote in remotes]


def _unreachable(workspace: Workspace, settings: Mapping[str, str]) -> list[str]:
    """What keeps the workers, which see nothing of this machine's folders, from working."""
    lines = []
    url, dvc = git_state.remote_url(workspace), workspace.dvc_remote()
    if not git_host(url):
        lines.append(
            f"workers can't clone this workspace, whose git remote is {url or 'none'}: give it one on a server"
        )
    elif "@" in url.partition("/")[0] + urlsplit(url).netloc and not settings.get("GIT_KEY"):
        lines.append(
            f"workers have no key for {url}: GIT_KEY and GIT_KNOWN_HOSTS in infra/.env, then start again"
        )
    if dvc is None or "://" not in dvc:
        name = Path(url).name.removesuffix(".git") or workspace.name
        lines.append(
            f"workers can't reach the DVC remote, {dvc or 'none'}: `dvc remote add --default team {BUCKET}{name}`, "
            "start again, `dvc push`, and commit and push .dvc/config"
        )
    return lines
