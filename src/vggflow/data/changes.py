"""What changed between two states of the data, told from their manifests."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from vggflow.data.layout import SPLITS
from vggflow.data.names import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 5
KINDS = ("added", "removed", "changed", "moved", "relabelled", "excluded", "readmitted")


@dataclass(frozen=True)
class Changes:
    """Paths per kind of change, and images per split and class before and now.

    Attributes:
        added: files whose bytes were not there before.
        removed: files whose bytes are no longer there.
        changed: the same path with other bytes.
        moved: `(before, now)`: the same bytes at another path of the same class, such as in another split.
        relabelled: `(before, now)`: the same bytes in another class.
        excluded: files that are left out of training now, and were not before; `readmitted` the other way
        round.
        counts: `{"train": {"cats": (before, now)}}`, of images that can be learned from.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    relabelled: tuple[tuple[str, str], ...]
    excluded: tuple[str, ...]
    readmitted: tuple[str, ...]
    counts: dict[str, dict[str, tuple[int, int]]]

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def message(self) -> str:
        """One line for people."""
        parts = [f"{len(getattr(self, kind))} {kind}" for kind in KINDS if getattr(self, kind)]
        return ", ".join(parts) or "nothing changed"

    def examples(self, kind: str) -> list[str]:
        """The first few changes of a kind, each in one line."""
        lines = [
            printable(" → ".join(change) if isinstance(change, tuple) else change)
            for change in getattr(self, kind)[:SHOWN]
        ]
        more = len(getattr(self, kind)) - len(lines)
        return [*lines, f"… and {more} more"] if more > 0 else lines

    def rows(self) -> list[tuple[str, list[str]]]:
        """Per class the images in each split, with an arrow where their number changed."""
        names = sorted({name for counts in self.counts.values() for name in counts})
        return [(name, [_arrow(self.counts.get(split, {}).get(name)) for split in SPLITS]) for name in names]

    def to_table(self) -> "RenderableType":
        """Counts and the first few paths of each kind, for the terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("class", *SPLITS, box=None, pad_edge=False)
        for name, cells in self.rows():
            table.add_row(Text(printable(name)), *cells)
        lines = [f"{kind}: {line}" for kind in KINDS for line in self.examples(kind)]
        return Group(table, Text("\n".join([self.message, *lines])))


def compare(before: pd.DataFrame, now: pd.DataFrame) -> Changes:
    """What became of the files of one manifest in another one.

    Bytes that lie at several paths are matched path by path, so a second copy counts as added.
    """
    old, new = _files(before), _files(now)
    same_path = old.merge(new, on="path", suffixes=("", "_now"))
    same = same_path[same_path["sha256"] == same_path["sha256_now"]]
    gone, come = _not_in(old, new), _not_in(new, old)
    pairs = gone.merge(come, on=["sha256", "turn"], suffixes=("", "_now"))
    relabelled = pairs["class_name"] != pairs["class_name_now"]
    return Changes(
        added=_paths(come[~come["path"].isin(pairs["path_now"])]),
        removed=_paths(gone[~gone["path"].isin(pairs["path"])]),
        changed=_paths(same_path[same_path["sha256"] != same_path["sha256_now"]]),
        moved=_both_paths(pairs[~relabelled]),
        relabelled=_both_paths(pairs[relabelled]),
        excluded=_paths(same[same["excluded"].isna() & same["excluded_now"].notna()]),
        readmitted=_paths(same[same["excluded"].notna() & same["excluded_now"].isna()]),
        counts=_counts(before, now),
    )


def _files(manifest: pd.DataFrame) -> pd.DataFrame:
    files = manifest[["path", "class_name", "sha256", "excluded"]].copy()
    # What could not be read is like no other file.
    files["sha256"] = files["sha256"].fillna(files["path"])
    return files


def _not_in(files: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    rest = files[~files["path"].isin(others["path"])]
    # Without a turn, three copies before and three now would make nine pairs.
    return rest.assign(turn=rest.groupby("sha256").cumcount())


def _paths(files: pd.DataFrame) -> tuple[str, ...]:
    return tuple(files["path"].tolist())


def _both_paths(pairs: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    return tuple(zip(pairs["path"].tolist(), pairs["path_now"].tolist(), strict=True))


def _counts(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, dict[str, tuple[int, int]]]:
    sizes = [
        manifest[manifest["error"].isna() & manifest["excluded"].isna()]
        .groupby(["split", "class_name"])
        .size()
        for manifest in (before, now)
    ]
    table = pd.concat(sizes, axis=1).fillna(0).astype(int).sort_index()
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for (split, name), old, new in table.itertuples():
        counts.setdefault(split, {})[name] = (old, new)
    return counts


def _arrow(change: tuple[int, int] | None) -> str:
    old, new = change or (0, 0)
    return str(new) if old == new else f"{old} → {new}"
