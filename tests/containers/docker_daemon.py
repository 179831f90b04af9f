"""Docker with Compose v2 for these tests: the daemon that is there, else one of their own, with a folder of its own."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Keeps the daemon's images, so that the next run builds less: a folder, which stays.
KEPT = "VGGFLOW_TEST_DOCKER"
SECONDS_TO_START = 60
# Contents of `configs` and secrets from the environment came with it.
OLDEST_COMPOSE = (2, 24)
# Compose v2 is in this release, and needs nothing that an older one lacks.
SUITE_WITH_COMPOSE = "trixie"
MISSING = "no Docker with Compose 2.24 or later here: start it, or be root on Debian to install it"


@contextmanager
def daemon() -> Iterator[Mapping[str, str]]:
    """The environment in which `docker` and `docker compose` work; it names a DOCKER_HOST if the daemon is the tests'.

    Raises:
        RuntimeError: neither is Docker here, nor may it be installed.
    """
    if _answers({}) and _has_compose({}):
        yield {}
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RuntimeError(MISSING)
    kept = os.environ.get(KEPT)
    folder = Path(kept).absolute() if kept else Path(tempfile.mkdtemp(prefix="vggflow-docker-"))
    folder.mkdir(parents=True, exist_ok=True)
    config = {"DOCKER_CONFIG": str(folder / "config")}
    own = config | {"DOCKER_HOST": f"unix://{folder / 'docker.sock'}"}
    try:
        _install(folder, config)
        if _answers(config):  # it lacked Compose, or Debian started it as it was installed
            yield config
        elif _answers(own):  # left running by who keeps the folder
            yield own
        else:
            with _started(folder, own):
                yield own
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(environment: Mapping[str, str]) -> bool:
    if not shutil.which("docker"):
        return False
    return (
        subprocess.run(["docker", "info"], env=os.environ | environment, capture_output=True).returncode == 0
    )


def _has_compose(environment: Mapping[str, str]) -> bool:
    asked = ["docker", "compose", "version", "--short"]
    said = subprocess.run(asked, env=os.environ | environment, capture_output=True, text=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2])) >= OLDEST_COMPOSE


def _install(folder: Path, config: Mapping[str, str]) -> None:
    """Debian's Docker, and Compose from the release that has its second version: for these tests only."""
    if not all(map(shutil.which, ("docker", "dockerd", "debootstrap"))):
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", "docker.io", "debootstrap", "iptables")
        if not shutil.which("docker"):  # a package of its own since trixie
            _apt("install", "-y", "-qq", "--no-install-recommends", "docker-cli")
    if not _has_compose(config):
        _fetch_compose(folder / "apt", folder / "config" / "cli-plugins" / "docker-compose")


def _fetch_compose(lists: Path, plugin: Path) -> None:
    """Unpacks the package of another release, with sources of its own: the system's stay as they are."""
    (lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (lists / "sources.list").write_text(f"deb {mirror()} {SUITE_WITH_COMPOSE} main\n")
    places = {
        "Dir::Etc::sourcelist": lists / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": lists / "lists",
        "Dir::Cache": lists / "cache",
    }
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    _apt(*options, "update", "-qq")
    _apt(*options, "download", "-qq", "docker-compose", folder=lists)
    (package,) = lists.glob("docker-compose*.deb")
    subprocess.run(["dpkg-deb", "-x", package, lists / "unpacked"], check=True)
    plugin.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(lists / "unpacked/usr/libexec/docker/cli-plugins/docker-compose", plugin)


def mirror() -> str:
    """Where this system gets Debian's packages."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian"]
    for update in (False, True):
        if update:  # a new machine knows nothing yet
            _apt("update", "-qq")
        if found := subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split():
            return found[0]
    raise RuntimeError(MISSING)


def _apt(*words: str, folder: Path | None = None) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"apt-get {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def _started(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A daemon whose images, containers and socket lie in a folder; ended with all that it started."""
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", *places, "-H", environment["DOCKER_HOST"]],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tests, which still need it to clean up
        )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not _answers(environment):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (folder / "log").read_text(errors="replace").splitlines()[-1:]
                raise RuntimeError(f"dockerd does not start: {' '.join(said)}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()  # its containerd goes with it
        process.wait(60)
