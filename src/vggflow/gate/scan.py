"""The scan: every file below the data folder becomes a row of the manifest, and is read at most once."""

from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from vggflow.data import layout, schema
from vggflow.data.contents import Contents
from vggflow.data.layout import Entry
from vggflow.data.spread import Spread
from vggflow.errors import DataError
from vggflow.gate.inspect_file import Facts, crashed, inspect
from vggflow.gate.scan_memory import KEY, ScanMemory
from vggflow.gate.shard_scan import ShardScan

Progress = Callable[[int, int], None]

# So many files are kept as one part in the scan's memory: what a killed scan has to read again.
PART = 4096


def scan(data_folder: Path, progress: Progress | None = None, cache: Path | None = None) -> pd.DataFrame:
    """Looks at every file below the data folder (not `sample/`) and decodes each image once; changes nothing.

    Args:
        progress: called with the files done and the files in total.
        cache: a folder in which the scan remembers what it saw, so the next one reads only what has changed.

    Raises:
        DataError: there is no data folder, or no file in it.
    """
    # Asked for its errors only: data without the splits that training needs are refused unread.
    layout.class_folders(data_folder)
    seen, others = _look(data_folder)
    contents = Contents(data_folder)
    if seen.empty and not others and not contents.shards:
        raise DataError(f"no images in {data_folder}: bring images in with `vggflow data import`")
    memory = ScanMemory(cache)
    recalled = memory.recall(seen)
    known = recalled["sha256"].notna()
    unknown = recalled.loc[~known, list(KEY)].sort_values("path", ignore_index=True)
    packed = ShardScan(contents, memory.folder)
    total = len(recalled) + packed.count(new=False)
    told = _Told(progress, total - len(unknown) - packed.count(new=True), total)
    parts = [recalled[known]]
    spread = Spread(data_folder)
    places = contents.places(unknown["path"])
    for part in _parts(unknown, told.of(spread.for_each(inspect, places, crashed))):
        memory.add(part)
        parts.append(part)
    files = pd.concat(parts, ignore_index=True)
    memory.keep(files)
    # A file goes before a member of the same path.
    found = packed.rows(lambda places: told.of(spread.for_each(inspect, places, crashed)))
    members = [rows[~rows["path"].isin(seen["path"])] for rows in found]
    return _manifest(pd.concat([files, *members], ignore_index=True), others)


def _look(data_folder: Path) -> tuple[pd.DataFrame, list[Entry]]:
    """The plain files (columns `KEY`), and whatever else there is."""
    # Arrays take 8 bytes a number, lists of integers about 40, and there may be millions of files.
    # Times are signed: what was made before 1970 has negative ones.
    columns: dict[str, Any] = {
        name: [] if kind == "str" else array("Q" if kind == "uint64" else "q") for name, kind in KEY.items()
    }
    others = []
    for entry in layout.walk(data_folder):
        if entry.kind == "file" and (status := entry.status):
            row = (entry.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            for values, value in zip(columns.values(), row, strict=True):
                values.append(value)
        elif entry.kind != "shard":
            others.append(entry)
    return pd.DataFrame(columns).astype(KEY), others


class _Told:
    """Tells of each file that has been read."""

    def __init__(self, progress: Progress | None, known: int, total: int) -> None:
        self._progress, self._done, self._total = progress, known, total

    def of(self, facts: Iterator[Facts]) -> Iterator[Facts]:
        """The same facts, told as they come."""
        for row in facts:
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total)
            yield row


def _parts(unknown: pd.DataFrame, facts: Iterator[Facts]) -> Iterator[pd.DataFrame]:
    """Rows of `KEY` and facts, part by part."""
    for start in range(0, len(unknown), PART):
        keys = unknown[start : start + PART].reset_index(drop=True)
        # A file that could not be read tells no number of bytes itself.
        # Strict: with one fact too few, every later file would get those of another.
        rows = [{"bytes": size} | row for size, row in zip(keys["size"], islice(facts, PART), strict=True)]
        yield pd.concat([keys, schema.table(rows).drop(columns="path")], axis=1)


def _manifest(files: pd.DataFrame, others: list[Entry]) -> pd.DataFrame:
    rest = schema.table(
        {
            "path": entry.path,
            "kind": "image" if entry.kind == "closed" else entry.kind,
            "bytes": entry.status.st_size if entry.status else 0,
            "error": entry.reason,
        }
        for entry in others
    )
    manifest = pd.concat([files, rest], ignore_index=True)
    # `split` makes fewer columns where no path is so deep.
    parts = manifest["path"].str.split("/", n=2, expand=True).reindex(columns=range(3))
    manifest["split"] = parts[0].where(parts[1].notna(), "")
    manifest["class_name"] = parts[1].where(parts[2].notna(), "")
    _set_aside(manifest, pd.Series([*([True] * len(files)), *(entry.kind != "closed" for entry in others)]))
    manifest["excluded"] = None
    return manifest.sort_values("path", ignore_index=True)[list(schema.COLUMNS)].astype(schema.COLUMNS)


def _set_aside(manifest: pd.DataFrame, opened: pd.Series) -> None:
    """Images outside of a class folder are strays too; what can't be opened may be a whole class."""
    elsewhere = (manifest["class_name"] == "") | ~manifest["split"].isin(layout.SPLITS)
    kept = (manifest["class_name"] == layout.UNLABELLED) & manifest["split"].isin(["train", "valid"])
    for wrong, reason in (
        (elsewhere, "not in {train,valid,test}/<class>/"),
        (kept, f"`{layout.UNLABELLED}` is kept for unlabelled images in test"),
    ):
        images = wrong & opened & (manifest["kind"] == "image")
        manifest.loc[images, "kind"] = "stray"
        manifest.loc[images, "error"] = reason
