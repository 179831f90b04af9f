"""What classes of a delivery are called in the data: one folder for a class, however its name is written."""

from collections.abc import Collection, Iterable
from itertools import pairwise

from vggflow.data import names
from vggflow.data.names import printable
from vggflow.errors import DataError


def class_folders(delivered: Collection[str], there: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The folder of each delivered class, and what a person should know of it.

    A class that is there keeps its folder, also where that is written otherwise; a new one gets a tidy name.

    Args:
        delivered: The names that the delivery has.
        there: The classes of the data.

    Raises:
        DataError: two classes differ in a way that another system does not see, such as in case.
    """
    # A folder of exactly this name goes before one that is only written otherwise.
    known = {names.tidy(name): name for name in sorted(there)} | {name: name for name in there}
    called = {name: known.get(name) or known.get(names.tidy(name)) or names.tidy(name) for name in delivered}
    _refuse_twins(set(called.values()), there)
    changed = sorted((name, folder) for name, folder in called.items() if name != folder)
    return called, [
        f"class {name!a} {names.difference(name, folder)} from {folder!a}: it goes there"
        for name, folder in changed
    ]


def _refuse_twins(coming: set[str], there: Collection[str]) -> None:
    """Classes that were there beside each other before may stay: the gate tells of them."""
    for one, other in _twins({*coming, *there}):
        if not {one, other} <= {*there}:
            raise DataError(
                f"classes {printable(one)} and {printable(other)} may be one folder on another machine, since the "
                f"first {names.difference(one, other)} from the second: rename one of them"
            )


def _twins(all_names: Iterable[str]) -> list[tuple[str, str]]:
    # Sorted by key, twins are neighbours: no name is compared with all others.
    by_key = sorted((names.key(name), name) for name in all_names)
    return [(one[1], other[1]) for one, other in pairwise(by_key) if one[0] == other[0]]
