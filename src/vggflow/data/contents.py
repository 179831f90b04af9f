"""The images of a data folder, whether they are files of their own or members of shards.

A file goes before a member of the same path, so whatever a killed `pack` or `unpack` left shows the same images.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from vggflow.data import shards
from vggflow.data.places import Place
from vggflow.errors import DataError

__all__ = ["Contents", "Place"]


class Contents:
    """Where each image of a data folder is.

    Args:
        data_folder: The folder; need not be there.

    Raises:
        DataError: a shard is damaged, or two shards hold different bytes under one path.
    """

    def __init__(self, data_folder: Path) -> None:
        self.folder = data_folder
        self.shards = shards.shards(data_folder)
        tables = [shards.read_index(shard).assign(shard=number) for number, shard in enumerate(self.shards)]
        self._members = _without_doubles(tables, self.shards, data_folder) if tables else None
        self._columns = {name: self.members[name].to_numpy(np.int64) for name in ("shard", "offset", "bytes")}
        self._rows = pd.Index([] if self._members is None else self._members["path"])

    @property
    def members(self) -> pd.DataFrame:
        """What the shards hold, sorted by path, files of the same path or not: path, bytes, sha256, offset, shard."""
        if self._members is None:
            return pd.DataFrame({name: [] for name in shards.COLUMNS}).astype(shards.COLUMNS).assign(shard=0)
        return self._members

    def place(self, path: str) -> Place:
        """Where the image is that has this path below the data folder; a file that is gone has its path."""
        return next(self.places([path]))

    def places(self, paths: Iterable[str]) -> Iterator[Place]:
        """The same for many."""
        names = list(paths)
        for name, row in zip(names, self._rows_of(names), strict=True):
            file = self.folder / name
            yield Place(str(file)) if row < 0 or file.exists() else self._member(name, row)

    def _rows_of(self, names: list[str]) -> list[int]:
        """The rows of the members with these paths, -1 where there is none."""
        if self._members is None:
            return [-1] * len(names)
        return self._rows.get_indexer(pd.Index(names, dtype="str")).tolist()

    def _member(self, name: str, row: int) -> Place:
        shard, offset, size = (self._columns[column][row] for column in ("shard", "offset", "bytes"))
        return Place(str(self.shards[shard]), name, int(offset), int(size))


def _without_doubles(tables: list[pd.DataFrame], files: list[Path], data_folder: Path) -> pd.DataFrame:
    """One row a path, sorted.

    Raises:
        DataError: two shards hold different bytes under one path, and no file decides.
    """
    members = pd.concat(tables, ignore_index=True).sort_values(["path", "shard"], ignore_index=True)
    double = members[members["path"].duplicated(keep=False)]
    for path, rows in double.groupby("path"):
        if rows["sha256"].nunique() > 1 and not (data_folder / str(path)).exists():
            one, other = (files[number].name for number in rows["shard"].iloc[:2])
            raise DataError(
                f"{data_folder / str(path)} lies in {one} and {other} with different bytes: put the right one "
                "there as a file, then `vggflow data pack`"
            )
    return members.drop_duplicates("path", ignore_index=True)
