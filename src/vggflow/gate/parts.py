"""The rows that break a rule, counted per class folder, by other means than `verdict.decide`, which they confirm."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vggflow.gate.rules import Rule


class Counted(NamedTuple):
    """What breaks rules.

    `parts` has a row for each class folder with a file: `path` of the folder, `files` in it, and for each rule, by
    its name, how many of these break it. `faulty` are the rows that break any rule, in the order of the table.
    """

    parts: pd.DataFrame
    faulty: pd.DataFrame


def count(table: pd.DataFrame, asked: Sequence[Rule]) -> Counted:
    """Counts the rows of a table of files, which takes a byte a row beside the table."""
    folders = table[["split", "class_name"]]
    part = folders.groupby(["split", "class_name"], sort=True).ngroup().to_numpy()
    parts = folders.drop_duplicates().sort_values(["split", "class_name"], ignore_index=True)
    paths = [_path(*names) for names in parts.itertuples(index=False)]
    counts = {"path": pd.Series(paths, dtype="str"), "files": np.bincount(part, minlength=len(parts))}
    any_broken = np.zeros(len(table), dtype=bool)
    for rule in asked:
        broken = _broken(table[rule.column], rule)
        counts[rule.name] = np.bincount(part[broken], minlength=len(parts))
        any_broken |= broken
    columns = list(dict.fromkeys(["path", *(rule.column for rule in asked)]))
    return Counted(pd.DataFrame(counts), table.loc[any_broken, columns])


def _broken(values: pd.Series, rule: Rule) -> NDArray[np.bool_]:
    if not rule.is_range:
        return values.notna().to_numpy(dtype=bool)
    numbers = values.to_numpy(dtype="float64", na_value=np.nan)
    low = -np.inf if rule.minimum is None else rule.minimum
    high = np.inf if rule.maximum is None else rule.maximum
    # A missing number is neither below nor above.
    return np.asarray((numbers < low) | (numbers > high))


def _path(split: str, class_name: str) -> str:
    return "/".join(name for name in (split, class_name) if name) or "outside of all splits"
