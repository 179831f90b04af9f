"""Which split an image goes to, told by its content alone: adding images never moves one that is there."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from vggflow.errors import DataError


@dataclass(frozen=True)
class Shares:
    """How much of the images goes to `valid` and `test`; the rest goes to train.

    Images whose paths (`class/…`) match the regular expression `group` alike (in its first group, or as a
    whole where it has none) stay together: `--group 'patient_(\\d+)'`.
    """

    valid: float = 0.1
    test: float = 0.1
    group: str | None = None

    def __post_init__(self) -> None:
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise DataError(
                f"shares of {self.valid:g} for valid and {self.test:g} for test leave nothing for train: "
                "both at least 0, together less than 1"
            )
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise DataError(f"--group {self.group!r} is no regular expression: {error}") from error


def choose_split(path: PurePosixPath, content: bytes, shares: Shares) -> str:
    """The split of an image: the same for the same bytes, or for the same group.

    The SHA-256 as a number from 0 to 1 falls into test, valid or train, in this order.
    """
    group = group_of(path, shares.group)
    key = content if group is None else group.encode(errors="surrogateescape")
    place = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
    # Test comes first, so another share for valid moves nothing into test or out of it.
    if place < shares.test:
        return "test"
    return "valid" if place < shares.test + shares.valid else "train"


def group_of(path: PurePosixPath, group: str | None) -> str | None:
    """The group that a path belongs to by the regular expression of `Shares`."""
    match = re.search(group, str(path)) if group else None
    if match is None:
        return None
    # A first group that took no part in the match is None.
    return (match.group(1) if match.re.groups else match.group()) or ""
