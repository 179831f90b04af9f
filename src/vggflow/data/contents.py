"""The images of a data folder, whether they are files of their own or members of shards.

A file goes before a member of the same path, so whatever a killed `pack` or `unpack` left shows the same images.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.data import layout, places
from vggflow.data.places import Place
from vggflow.data.shards import COLUMNS, read_index
from vggflow.errors import DataError

__all__ = ["Contents", "Place", "Places"]


class Contents:
    """Where each image of a data folder is.

    Args:
        data_folder: The folder; need not be there.

    Raises:
        DataError: a shard is damaged, or two shards hold different bytes under one path.
    """

    def __init__(self, data_folder: Path) -> None:
        self.folder = data_folder
        self.shards = places.shards(data_folder)
        tables = [read_index(shard).assign(shard=number) for number, shard in enumerate(self.shards)]
        self._members = _without_doubles(tables, self.shards, data_folder) if tables else None
        self._columns = {name: self.members[name].to_numpy(np.int64) for name in ("shard", "offset", "bytes")}
        self._rows = pd.Index([] if self._members is None else self._members["path"])

    @property
    def members(self) -> pd.DataFrame:
        """What the shards hold, sorted by path, files of the same path or not: path, bytes, sha256, offset, shard."""
        if self._members is None:
            return pd.DataFrame({name: [] for name in COLUMNS}).astype(COLUMNS).assign(shard=0)
        return self._members

    def sizes(self) -> dict[str, int]:
        """The size in bytes of every plain file and every member, by path."""
        found = dict(zip(self.members["path"].tolist(), self.members["bytes"].tolist(), strict=True))
        plain = (entry for entry in layout.walk(self.folder) if entry.kind == "file" and entry.status)
        return found | {entry.path: entry.status.st_size for entry in plain if entry.status}

    def has(self, path: str) -> bool:
        """Whether there is an image, or another file, at a path."""
        place = self.place(path)
        return place.size is not None or Path(place.file).is_file()

    def place(self, path: str) -> Place:
        """Where the image is that has this path below the data folder; a file that is gone has its path."""
        found: Place = self.places([path])[0]
        return found

    def places(self, paths: Iterable[str]) -> "Places":
        """The same for many."""
        names = list(paths)
        if self._members is None:
            return Places(self, names, np.full(len(names), -1, np.int32))
        rows = self._rows.get_indexer(pd.Index(names, dtype="str")).astype(np.int32)
        for place in np.flatnonzero(rows >= 0).tolist():
            if (self.folder / names[place]).exists():
                rows[place] = -1
        return Places(self, names, rows)

    def digests(self, paths: Iterable[str]) -> Iterator[str | None]:
        """The SHA-256 of each image in hexadecimal, of a member without reading it; null where it can't be read."""
        places = self.places(paths)
        for place, row in zip(places, places.rows.tolist(), strict=True):
            try:
                yield place.sha256() if row < 0 else str(self.members["sha256"].iloc[row])
            except OSError:
                yield None

    def member(self, name: str, row: int) -> Place:
        """Where a row of `members` is."""
        shard, offset, size = (self._columns[column][row] for column in ("shard", "offset", "bytes"))
        return Place(str(self.shards[shard]), name, int(offset), int(size))


class Places(Sequence[Place]):
    """Where many images are; a `Place` is made when it is asked for, since it takes five times the memory of a name."""

    def __init__(self, contents: Contents, names: Sequence[str], rows: NDArray[np.int32]) -> None:
        """The images of these names; `rows` are those of the members of shards, -1 for files."""
        self._contents, self._names, self.rows = contents, names, rows

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return Places(self._contents, self._names[number], self.rows[number])
        name, row = self._names[number], int(self.rows[number])
        return Place(str(self._contents.folder / name)) if row < 0 else self._contents.member(name, row)


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
