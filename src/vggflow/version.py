"""Which vggflow this is: its version and a digest of its source.

A workspace keeps this line in `vggflow.version`, on which every stage depends:
upgrading vggflow makes stages stale.
"""

import hashlib
from functools import cache
from pathlib import Path

from vggflow import __version__


@cache
def stamp() -> str:
    """The line that a workspace keeps, such as `0.1.0 sha256:3f2a91c07b5d4e66`."""
    return f"{__version__} sha256:{digest(Path(__file__).parent)[:16]}"


def digest(package: Path) -> str:
    """The SHA-256 over the names and bytes of a package's Python files."""
    found = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        found.update(source.relative_to(package).as_posix().encode() + b"\0")
        found.update(source.read_bytes() + b"\0")
    return found.hexdigest()
