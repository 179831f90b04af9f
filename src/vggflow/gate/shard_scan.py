"""The scan of shards: each image in them becomes a row, and is read once as long as its shard stays."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow.data import schema, shards
from vggflow.data.contents import Contents, Place
from vggflow.gate.inspect_file import Facts
from vggflow.gate.scan_memory import FACTS
from vggflow.gate.shard_memory import ShardMemory

# Facts of images at these places, in their order.
Look = Callable[[list[Place]], Iterator[Facts]]


class ShardScan:
    """The images in the shards of a data folder, as far as no file of the same path goes before them."""

    def __init__(self, contents: Contents, cache: Path | None) -> None:
        self._contents = contents
        self._memory = ShardMemory(cache)
        self._known = {shard: self._memory.recall(shard) for shard in contents.shards}

    @property
    def new(self) -> list[Path]:
        """Shards that nobody looked at yet."""
        return [shard for shard, part in self._known.items() if part is None]

    def count(self, *, new: bool) -> int:
        """Images in all shards, or in the new ones."""
        return sum(
            len(shards.read_index(shard)) if part is None else 0 if new else len(part)
            for shard, part in self._known.items()
        )

    def rows(self, look: Look) -> Iterator[pd.DataFrame]:
        """A table for each shard: columns `path` and `FACTS`."""
        indexes = {shard: shards.read_index(shard) for shard in self.new}
        places = [place for shard, index in indexes.items() for place in _places(shard, index)]
        facts = look(places)
        for number, (shard, part) in enumerate(self._known.items()):
            rows = self._read(shard, indexes[shard], facts) if part is None else part
            yield rows[rows["path"].isin(self._own(number))]
        self._memory.keep(self._contents.shards)

    def _read(self, shard: Path, index: pd.DataFrame, facts: Iterator[Facts]) -> pd.DataFrame:
        found = list(islice(facts, len(index)))
        told = zip(index["path"], index["bytes"], index["sha256"], found, strict=True)
        table = schema.table(
            {"path": path, "bytes": size} | _held(row, sha, shard) for path, size, sha, row in told
        )
        rows = table[["path", *FACTS]]
        self._memory.add(shard, rows)
        return rows

    def _own(self, number: int) -> pd.Series:
        """The paths that this shard speaks for."""
        members = self._contents.members
        return members["path"][members["shard"] == number]


def _places(shard: Path, index: pd.DataFrame) -> list[Place]:
    columns = (index[name].tolist() for name in ("path", "offset", "bytes"))
    return [Place(str(shard), *row) for row in zip(*columns, strict=True)]


def _held(facts: Facts, sha256: str, shard: Path) -> dict[str, Any]:
    """The facts of an image whose bytes are those that were packed; else only that they are not."""
    if facts.get("sha256") in (None, sha256):
        return facts
    return {"kind": facts["kind"], "error": f"damaged in {shard.name}: not the bytes that were packed"}
