"""The images that infra/ starts from: pulled where they can be, else made of Debian's packages under their names."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml
from docker_daemon import mirror

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "store-stand-in.lock"
RECIPES = Path(__file__).parent / "stand_ins"
STAND_IN, LABEL = "stand-in", "org.vggflow.stand-in"
DEBIAN = "vggflow-test-debian"
# Where packages come from, if not from where pip and uv look by themselves; certificates are handed on as well.
INDEX = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
# The name of an image without its version: the recipe, the Debian release, and what it is made of.
MADE_OF = {
    "python": ("python", "bookworm", "Debian's Python 3.11"),
    "postgres": ("postgres", "trixie", "Debian's PostgreSQL 17"),
    "chrislusf/seaweedfs": ("seaweedfs", "bookworm", "moto's S3, which checks keys but no signatures"),
}


def pinned() -> list[str]:
    """The names and versions that the Dockerfile and compose.yaml start from."""
    dockerfile = (ROOT / "infra" / "Dockerfile").read_text()
    services = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())["services"]
    names = {
        *re.findall(r"^FROM (\S+:\S+)", dockerfile, re.M),
        *(each["image"] for each in services.values()),
    }
    return sorted(name for name in names if not name.startswith("vggflow:"))


def ensure(docker: Mapping[str, str]) -> dict[str, str]:
    """Sees that all are there; returns for each what it is."""
    return {name: _ensure(name, docker) for name in pinned()}


def forget(found: Mapping[str, str], docker: Mapping[str, str]) -> None:
    """Takes stand-ins away from a daemon that others use: they would be taken for the originals."""
    made = [name for name, what in found.items() if what.startswith(STAND_IN)]
    made += _docker(docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", DEBIAN).split()
    for name in made:
        _docker(docker, "image", "rm", "--force", name)


def _ensure(name: str, docker: Mapping[str, str]) -> str:
    recipe, suite, made_of = MADE_OF[name.rpartition(":")[0]]
    wanted = f"{made_of}, {_digest(recipe)}"
    asked = ["image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', name]
    found = _docker(docker, *asked, check=False).strip()
    if found == wanted:
        return f"{STAND_IN}: {made_of}"
    if not found and (
        _is_there(name, docker) or _docker(docker, "pull", "--quiet", name, check=False).strip() == name
    ):
        return "original"
    debian = _debian(suite, docker)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / recipe
        shutil.copytree(RECIPES / recipe, context)
        shutil.copy(
            os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
            context / "certificates.crt",
        )
        shutil.copy(LOCK, context / "moto.lock")
        with (context / "Dockerfile").open("a") as dockerfile:
            dockerfile.writelines(f"ENV {line}\n" for line in _index())
        options = ["--build-arg", f"DEBIAN={debian}", "--label", f"{LABEL}={wanted}", "--tag", name]
        _docker(docker, "build", "--quiet", *options, str(context))
    return f"{STAND_IN}: {made_of}"


def _is_there(name: str, docker: Mapping[str, str]) -> bool:
    return bool(_docker(docker, "image", "ls", "--quiet", name).strip())


def _digest(recipe: str) -> str:
    content = [path.read_bytes() for path in (*sorted((RECIPES / recipe).iterdir()), LOCK)]
    return hashlib.sha256(b"".join(content) + "".join(_index()).encode()).hexdigest()[:12]


def _index() -> list[str]:
    return [f"{name}={os.environ[name]}" for name in INDEX if name in os.environ]


def _debian(suite: str, docker: Mapping[str, str]) -> str:
    """The smallest Debian, from its packages."""
    image = f"{DEBIAN}:{suite}"
    if not _is_there(image, docker):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            include = "--include=ca-certificates"
            command = ["debootstrap", "--variant=minbase", include, suite, str(root), mirror()]
            subprocess.run(command, check=True, capture_output=True)
            packed = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
            subprocess.run(
                ["docker", "import", "-", image],
                stdin=packed.stdout,
                env=os.environ | docker,
                check=True,
                capture_output=True,
            )
            assert packed.wait() == 0
    return image


def _docker(docker: Mapping[str, str], *words: str, check: bool = True) -> str:
    # Not every installation has the newer builder; the older one is enough for these.
    environment = os.environ | docker | {"DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 or not check, (
        f"docker {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done.stdout
