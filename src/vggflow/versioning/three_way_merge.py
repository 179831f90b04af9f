"""Two sets of files that went different ways are put together by content, and nothing is lost.

A folder is a listing: path to the hash of the bytes. Three are compared, or four: what the folder is now (`ours`),
what its committed version says (`theirs`), what the folder was last seen as (`seen`), and the version that theirs is
known to come from (`base`). What is gone since `seen` without anybody's word is told apart from what theirs dropped.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

Listing = Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """How a folder becomes what both sides want.

    Attributes:
        bring: paths to write and the hashes of their bytes; theirs, and new here. To be written in this order.
        drop: paths to remove, which theirs dropped or moved and nobody changed here.
        own: paths of ours that theirs lacks: additions, and the new places of what was moved.
        moved: paths of theirs whose bytes lie elsewhere here.
        gone: paths and hashes of bytes that were here and are no longer, by nobody's word.
        clashes: paths that hold different bytes on both sides.
    """

    bring: dict[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    gone: dict[str, str] = field(default_factory=dict)
    clashes: frozenset[str] = frozenset()

    @property
    def differs(self) -> bool:
        """Whether what comes out is another version than theirs."""
        return bool(self.own or self.moved)


def compare(ours: Listing, theirs: Listing, seen: Listing | None, base: Listing | None) -> Plan:
    """What to do with `ours` so that it holds what both sides delivered.

    Args:
        seen: what the folder was last known to be; none where nobody knows, and then nothing counts as gone.
        base: a version that theirs comes from, so that what it lacks of that was dropped on purpose; none where
            no such version is known, and then nothing of ours is dropped.
    """
    base = base or {}
    bring: dict[str, str] = {}
    clashes, moved = set(), set()
    for path, content in theirs.items():
        mine = ours.get(path)
        if mine == content:
            continue
        if seen is not None and seen.get(path, base.get(path)) == content:
            moved.add(path)  # changed or taken away here: its bytes lie elsewhere, or are told as gone
        # New there; or changed there and here still what both come from.
        elif mine is None or base.get(path) == mine:
            bring[path] = content
        else:
            clashes.add(path)
    lacking = {path for path in ours if path not in theirs}
    drop = {path for path in lacking if base.get(path) == ours[path]}
    # Where both sides moved the same bytes, what theirs still has stays at one place: not at two, so that a plan that
    # was cut off after the first is no other than the whole.
    vanishing = set(ours.values()) - _left(ours, drop, bring)
    missed = sorted(path for path in moved if path not in ours and theirs[path] in vanishing)
    back = {theirs[path]: path for path in reversed(missed)}
    # First, in the order in which they are written: after a kill between two writes nothing would tell that the bytes
    # that the next one writes over are wanted elsewhere.
    bring = {path: content for content, path in back.items()} | bring
    # What theirs dropped as well may go.
    vanishing &= set(theirs.values()) - _left(ours, drop, bring)
    drop -= {path for path in drop if ours[path] in vanishing}
    clashes |= {path for path in bring if ours.get(path) in vanishing - _left(ours, drop, bring)}
    gone = _gone(set(ours.values()) | set(bring.values()), set(theirs.values()), seen or {}, base)
    return Plan(bring, frozenset(drop), frozenset(lacking - drop), frozenset(moved), gone, frozenset(clashes))


def _left(ours: Listing, drop: Set[str], bring: Listing) -> set[str]:
    """What lies anywhere in the folder afterwards, of what is there now or comes."""
    kept = {path: content for path, content in ours.items() if path not in drop}
    return set({**kept, **bring}.values())


def _gone(here: set[str], there: set[str], seen: Listing, base: Listing) -> dict[str, str]:
    """Files whose bytes were here, are nowhere here now, and were not dropped by theirs."""
    return {
        path: content
        for path, content in seen.items()
        # Bytes that theirs dropped on purpose, since `base` had them, are not missed.
        if content not in here and (content in there or content not in base.values())
    }
