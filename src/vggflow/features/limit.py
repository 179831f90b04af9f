"""The feature cache as a whole: what it holds, clearing it, and keeping it within its limit.

Imports no Keras: `vggflow cache` answers at once.
"""

import math
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vggflow import files
from vggflow.environment import FEATURES_GB
from vggflow.errors import UsageError
from vggflow.features.store import FOLDER, KIND, TRIAL, Kind, Shard, damaged, entries, shards

# A shard of 256 images takes minutes on two cores, so after an hour nobody is writing it any more.
HOURS_UNTIL_ABANDONED = 1.0
# Features of 25,000 photographs after block3_pool, at 224 px, take 20.07.
DEFAULT_LIMIT_GB = 24.0


@dataclass(frozen=True)
class Entry:
    """What the cache holds of one kind; `last_used` in seconds since 1970."""

    kind: Kind
    images: int
    size_bytes: int
    last_used: float


def limit_bytes() -> int:
    """What all features together may take on disk: `VGGFLOW_FEATURES_GB`, else 24 GB; 0 caches none.

    Raises:
        UsageError: the variable holds no number, or a negative one.
    """
    given = os.environ.get(FEATURES_GB, DEFAULT_LIMIT_GB)
    # `inf` is a number, but no whole one; NaN is not at least 0.
    with suppress(ValueError, OverflowError):
        if (limit := float(given)) >= 0:
            return int(limit * 1e9)
    raise UsageError(f"{FEATURES_GB} is {given!r}, expected the gigabytes that cached features may take")


def contents(state_folder: Path) -> list[Entry]:
    """What the cache holds, the kind last used first."""
    found = []
    for kind in kinds(state_folder):
        held = list(shards(state_folder / FOLDER / kind.key()))
        if not held:  # its features were removed; what names the kind stays for who computes them anew
            continue
        used = max(_last_used(shard.listing) for shard in held)
        images = len({image for shard in held for image in shard.images})
        found.append(Entry(kind, images, sum(map(_shard_bytes, held)), used))
    return sorted(found, key=lambda entry: -entry.last_used)


def kinds(state_folder: Path) -> list[Kind]:
    """The kinds of features that the cache has, or had, a folder of."""
    found = []
    for path in [folder / KIND for folder in entries(state_folder / FOLDER)]:
        # Being cleared, or damaged.
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = files.read_json(path)
            kind = Kind(**{**content, "shape": tuple(content["shape"])})
            if kind.key() == path.parent.name:
                found.append(kind)
    return found


def held_bytes(state_folder: Path) -> int:
    """What the cache takes on disk."""
    return sum(_bytes(path) for folder in entries(state_folder / FOLDER) for path in entries(folder))


def clear(state_folder: Path) -> int:
    """Removes all features; the next training computes them again. Returns the bytes freed."""
    freed = held_bytes(state_folder)
    shutil.rmtree(state_folder / FOLDER, ignore_errors=True)
    return freed


def remove(state_folder: Path, kinds: Iterable[Kind]) -> None:
    """Removes all features of these kinds, and nothing of any other."""
    for kind in kinds:
        for shard in shards(state_folder / FOLDER / kind.key()):
            shard.remove()


def evict(state_folder: Path, limit_bytes: int, unused_since: float = math.inf) -> int:
    """Removes the shards that were not used for longest until the rest fits; none used after `unused_since`.

    Also removes what is damaged, and what a killed process left half-written. Returns the bytes freed.
    """
    _remove_abandoned(state_folder / FOLDER)
    held = [shard for folder in entries(state_folder / FOLDER) for shard in shards(folder)]
    sizes = {shard.path: _shard_bytes(shard) for shard in held}
    used = {shard.path: _last_used(shard.listing) for shard in held}
    excess = sum(sizes.values()) - limit_bytes
    freed = 0
    for shard in sorted(held, key=lambda shard: used[shard.path]):
        if freed >= excess or used[shard.path] > unused_since:
            break
        shard.remove()
        freed += sizes[shard.path]
    return freed


def _shard_bytes(shard: Shard) -> int:
    return _bytes(shard.path) + _bytes(shard.listing)


def _bytes(path: Path) -> int:
    """What a file takes; nothing where another process removed it meanwhile."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _last_used(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _remove_abandoned(folder: Path) -> None:
    oldest = time.time() - HOURS_UNTIL_ABANDONED * 3600
    for kind in entries(folder):
        for shard in damaged(kind):
            shard.remove()
        with suppress(FileNotFoundError):
            if kind.name.startswith(TRIAL) and kind.stat().st_mtime < oldest:
                shutil.rmtree(kind, ignore_errors=True)
        for path in entries(kind):
            half = path.name.startswith(".") or (
                path.suffix == ".npy" and not path.with_suffix(".json").exists()
            )
            with suppress(FileNotFoundError):
                if half and path.stat().st_mtime < oldest:
                    path.unlink()
