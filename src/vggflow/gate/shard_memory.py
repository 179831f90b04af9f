"""What the gate saw in a shard, kept by the shard's SHA-256: a shard never changes, so it is looked at once."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow import files
from vggflow.gate.memory_files import read_memory, remembering
from vggflow.gate.scan_memory import FACTS

# What was last found out of each shard's file, by its name: its state on the disk, and its SHA-256.
STATES = "states.json"


class ShardMemory:
    """The facts of the images in shards, kept in a folder; without one nothing is remembered.

    A file whose size, times and inode are those of its last check is trusted; another one is digested, which takes a
    hundredth of the time of looking at its images.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "shards" if folder else None
        self._states: dict[str, dict[str, Any]] = {}
        if self._folder:
            with suppress(OSError, ValueError):  # nothing yet, or damaged: all shards are digested again
                found = files.read_json(self._folder / STATES)
                self._states = found if isinstance(found, dict) else {}

    def recall(self, shard: Path) -> pd.DataFrame | None:
        """The facts of its images (columns `path` and `FACTS`); null where nobody looked at these bytes yet."""
        return read_memory(self._folder / f"{self._sha256(shard)}.parquet") if self._folder else None

    def add(self, shard: Path, rows: pd.DataFrame) -> None:
        """Remembers the facts of all its images, unless some could not be read: they may be readable next time."""
        if self._folder and rows["sha256"].notna().all():
            name = f"{self._sha256(shard)}.parquet"
            with remembering(self._folder):
                with files.replacing(self._folder / name) as beside:
                    rows[["path", *FACTS]].to_parquet(beside, index=False)
                files.write_json(self._folder / STATES, self._states)

    def keep(self, shards: list[Path]) -> None:
        """Forgets what is known of other shards than these."""
        if not self._folder or not self._folder.exists():
            return
        names = {shard.name for shard in shards}
        self._states = {name: state for name, state in self._states.items() if name in names}
        known = {state["sha256"] for state in self._states.values()}
        with remembering(self._folder):
            files.write_json(self._folder / STATES, self._states)
            for part in self._folder.glob("*.parquet"):
                if part.stem not in known:
                    part.unlink(missing_ok=True)

    def _sha256(self, shard: Path) -> str:
        # Asked before it is read: what is written meanwhile makes it another file.
        status = shard.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        before = self._states.get(shard.name)
        if before is None or before["state"] != state:
            self._states[shard.name] = {"state": state, "sha256": files.sha256(shard)}
        return str(self._states[shard.name]["sha256"])
