"""Which vggflow this is, and with which packages: its version, a digest of its source, and their versions.

A workspace keeps these lines in `vggflow.version`, on which every stage depends: upgrading vggflow, or a package
that can change a result, makes stages stale.
"""

import hashlib
from functools import cache
from pathlib import Path

from vggflow import __version__, packages

VGGFLOW = "vggflow"


# Of the vggflow that runs, also when an upgrade replaces its files meanwhile.
@cache
def stamp() -> str:
    """The first line that a workspace keeps, such as `0.1.0 sha256:3f2a91c07b5d4e66`."""
    return f"{__version__} sha256:{digest(Path(__file__).parent)[:16]}"


def text(backend: str = "tensorflow") -> str:
    """What a workspace keeps: vggflow, then a package a line, such as `pillow 12.1.0`."""
    lines = [f"{name} {number}" for name, number in packages.of_results(backend).items()]
    return "\n".join([stamp(), *lines]) + "\n"


def differences(recorded: str, here: str) -> list[str]:
    """How two such texts differ: `pillow 12.0.0 → 12.1.0`; none where only line ends do."""
    before, now = _named(recorded), _named(here)
    if len(before) == 1:  # written by a vggflow that recorded no packages
        unnamed = ["packages not named → named"] if len(now) > 1 else []
        now = {VGGFLOW: now[VGGFLOW]}
    else:
        unnamed = []
    names = sorted(before.keys() | now.keys(), key=lambda name: (name != VGGFLOW, name))
    changed = [name for name in names if before.get(name) != now.get(name)]
    return [f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}" for name in changed] + unnamed


def _named(recorded: str) -> dict[str, str]:
    first, *rest = recorded.splitlines() or ["none"]
    lines = [line.partition(" ") for line in rest if line.strip()]
    return {VGGFLOW: first.strip()} | {name: number.strip() for name, _, number in lines}


def digest(package: Path) -> str:
    """The SHA-256 over the names and texts of a package's Python files, whatever their line ends are."""
    found = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        # NUL after each part: else text that moves between name and content would give the same digest.
        found.update(source.relative_to(package).as_posix().encode() + b"\0")
        found.update(source.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return found.hexdigest()
