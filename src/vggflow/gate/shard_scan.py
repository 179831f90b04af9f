"""The scan of shards: each image in them becomes a row, and is read once as long as its shard stays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vggflow.data import schema, shards
from vggflow.data.contents import Contents, Place
from vggflow.gate.inspect_file import Facts
from vggflow.gate.scan_memory import FACTS
from vggflow.gate.shard_memory import ShardMemory

# Facts of images at these places, in their order.
Look = Callable[[Sequence[Place]], Iterator[Facts]]


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
        facts = look(_Members(indexes))
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


class _Members(Sequence[Place]):
    """The images of shards, one shard after the other; a `Place` is made when it is asked for."""

    def __init__(self, indexes: Mapping[Path, pd.DataFrame]) -> None:
        self._indexes = list(indexes.items())
        self._ends = np.cumsum([len(index) for index in indexes.values()], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: Any) -> Any:
        if not isinstance(number, slice):
            return self[number : number + 1][0]
        start, stop, _ = number.indices(len(self))
        found: list[Place] = []
        first, last = int(np.searchsorted(self._ends, start, "right")), int(np.searchsorted(self._ends, stop))
        for (shard, index), end in zip(
            self._indexes[first : last + 1], self._ends[first : last + 1], strict=True
        ):
            begin = int(end) - len(index)
            rows = index.iloc[max(start - begin, 0) : max(stop - begin, 0)]
            columns = (rows[name].tolist() for name in ("path", "offset", "bytes"))
            found += [Place(str(shard), *row) for row in zip(*columns, strict=True)]
        return found


def _held(facts: Facts, sha256: str, shard: Path) -> dict[str, Any]:
    """The facts of an image whose bytes are those that were packed; else only that they are not."""
    if facts.get("sha256") in (None, sha256):
        return facts
    return {"kind": facts["kind"], "error": f"damaged in {shard.name}: not the bytes that were packed"}
