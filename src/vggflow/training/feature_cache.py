"""The feature cache as a whole: what it holds, clearing it, and keeping it within its limit.

Imports no Keras: `vggflow cache` answers at once.
"""

import math
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vggflow import files
from vggflow.errors import UsageError
from vggflow.training.features import FOLDER, KIND, Kind, Shard, shards

HOURS_UNTIL_ABANDONED = 1.0
LIMIT, DEFAULT_LIMIT_GB = "VGGFLOW_FEATURES_GB", 20.0


@dataclass(frozen=True)
class Entry:
    """What the cache holds of one kind; `last_used` in seconds since 1970."""

    kind: Kind
    images: int
    size_bytes: int
    last_used: float


def limit_bytes() -> int:
    """What all features together may take on disk: `VGGFLOW_FEATURES_GB`, else 20 GB; 0 caches none.

    Raises:
        UsageError: the variable holds no number, or a negative one.
    """
    given = os.environ.get(LIMIT, DEFAULT_LIMIT_GB)
    with suppress(ValueError, OverflowError):
        if (limit := float(given)) >= 0:
            return int(limit * 1e9)
    raise UsageError(f"{LIMIT} is {given!r}, expected the gigabytes that cached features may take")


def contents(state_folder: Path) -> list[Entry]:
    """What the cache holds, the kind last used first."""
    entries = []
    for path in (state_folder / FOLDER).glob(f"*/{KIND}"):
        try:
            content = files.read_json(path)
        except (OSError, ValueError):  # being cleared, or damaged
            continue
        kind = Kind(**{**content, "shape": tuple(content["shape"])})
        held = list(shards(path.parent))
        used = max(map(_last_used, held), default=path.stat().st_mtime)
        images = len({image for shard in held for image in shard.images})
        entries.append(Entry(kind, images, sum(shard.size_bytes() for shard in held), used))
    return sorted(entries, key=lambda entry: -entry.last_used)


def held_bytes(state_folder: Path) -> int:
    """What the cache takes on disk."""
    return sum(path.stat().st_size for path in (state_folder / FOLDER).glob("*/*"))


def clear(state_folder: Path) -> int:
    """Removes all features; the next training computes them again. Returns the bytes freed."""
    freed = held_bytes(state_folder)
    shutil.rmtree(state_folder / FOLDER, ignore_errors=True)
    return freed


def evict(state_folder: Path, limit_bytes: int, unused_since: float = math.inf) -> int:
    """Removes the shards that were not used for longest until the rest fits; none used after `unused_since`.

    Also removes what a killed process left half-written. Returns the bytes freed.
    """
    _remove_abandoned(state_folder / FOLDER)
    held = [shard for folder in (state_folder / FOLDER).glob("*") for shard in shards(folder)]
    sizes = {shard.path: shard.size_bytes() for shard in held}
    excess = sum(sizes.values()) - limit_bytes
    freed = 0
    for shard in sorted(held, key=_last_used):
        if freed >= excess or _last_used(shard) > unused_since:
            break
        shard.remove()
        freed += sizes[shard.path]
    return freed


def _last_used(shard: Shard) -> float:
    return shard.listing.stat().st_mtime


def _remove_abandoned(folder: Path) -> None:
    oldest = time.time() - HOURS_UNTIL_ABANDONED * 3600
    for path in folder.glob("*/.*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    for path in folder.glob("*/*.npy"):
        with suppress(FileNotFoundError):
            if not path.with_suffix(".json").exists() and path.stat().st_mtime < oldest:
                path.unlink()
