"""What earlier scans saw, so that the next one reads only files that are new or have changed."""

import shutil
from pathlib import Path

import pandas as pd

from vggflow import files, packages
from vggflow.data import schema
from vggflow.gate import inspect_file
from vggflow.gate.memory_files import read_memory, remembering

# Who writes a file can set its size and modification time, as `cp -p` does, but not the time of its change.
KEY = {"path": "str", "size": "int64", "mtime_ns": "int64", "ctime_ns": "int64", "inode": "uint64"}
# What a row says that does not follow from the bytes and the extension of its file.
NOT_OF_THE_FILE = ("path", "split", "class_name", "near_group", "excluded")
FACTS = [name for name in schema.COLUMNS if name not in NOT_OF_THE_FILE]


class ScanMemory:
    """The facts of files by path, size, times and inode, kept in a folder; without one nothing is remembered.

    `folder` is where it is kept for this decoder.

    While a scan goes on it adds parts, so that a scan that was killed goes on where it was.
    """

    def __init__(self, folder: Path | None) -> None:
        # Facts depend on the decoder, so another version of it, or of a library inside it, has seen nothing yet.
        self.folder = folder / f"files-{inspect_file.VERSION}-{packages.decoding()}" if folder else None
        if folder:
            with remembering(folder):
                for old in folder.glob("files-*"):
                    if old != self.folder:
                        shutil.rmtree(old)

    def recall(self, seen: pd.DataFrame) -> pd.DataFrame:
        """The files seen (columns `KEY`), joined with their facts.

        `sha256` is null where there are none, and where the file could not be read: it may be readable now
        without a change that its times would show.
        """
        return seen.merge(self._remembered(), on=list(KEY), how="left")

    def add(self, rows: pd.DataFrame) -> None:
        """Adds rows (columns `KEY` and `FACTS`) that stay until the next `keep`."""
        if self.folder:
            with remembering(self.folder):
                number = sum(1 for _ in self.folder.glob("part-*"))
                self._write(self.folder, rows, f"part-{number:06}.parquet")

    def keep(self, rows: pd.DataFrame) -> None:
        """Remembers exactly these rows."""
        if self.folder:
            with remembering(self.folder):
                # Parts go last: a scan that is killed in between has its rows twice rather than not at all.
                self._write(self.folder, rows, "all.parquet")
                for part in self.folder.glob("part-*"):
                    part.unlink()

    @staticmethod
    def _write(folder: Path, rows: pd.DataFrame, name: str) -> None:
        with files.replacing(folder / name) as beside:
            rows[[*KEY, *FACTS]].to_parquet(beside, index=False)

    def _remembered(self) -> pd.DataFrame:
        parts = sorted(self.folder.glob("*.parquet")) if self.folder else []
        tables = [table for part in parts if (table := read_memory(part)) is not None]
        nothing = schema.table([])[["path", *FACTS]].assign(**{name: 0 for name in KEY if name != "path"})
        # `all` is before `part` in the alphabet, so what a part says is newer and counts.
        return pd.concat([nothing.astype(KEY), *tables]).drop_duplicates(list(KEY), keep="last")
