"""Bytes from the DVC remote by their MD5. The only module that imports DVC.

DVC is a program everywhere else. Here thousands of small reads a second go through DVC's own file systems, so that an
address and credentials mean exactly what they mean to `dvc pull`. Nothing of a repository is touched.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from vggflow.credentials import hide, without_password
from vggflow.errors import UsageError, VggflowError
from vggflow.git_and_dvc import dvc_file

# Of what a remote is configured with, what is no secret: a worker has its own credentials.
TOLD = frozenset(
    {
        "url",
        "endpointurl",
        "region",
        "profile",
        "use_ssl",
        "ssl_verify",
        "allow_anonymous_login",
        "projectname",
    }
    | {
        "account_name",
        "oss_endpoint",
        "port",
        "user",
        "connect_timeout",
        "connection_timeout",
        "read_timeout",
        "timeout",
    }
)
HASH = "md5"
# Ranges of a file with no more between them are read as one: a request costs as much as these bytes.
LARGEST_GAP_BYTES = 65_536

Remote = Mapping[str, Any]


class Wanted(NamedTuple):
    """Bytes of a file of this MD5: all of them, or `size` from `offset` on."""

    md5: str
    offset: int = 0
    size: int | None = None


def remote(root: Path) -> Remote | None:
    """The default remote of the workspace at `root`, without secrets; none where it has none that goes by hashes.

    Raises:
        UsageError: DVC's configuration can't be read, or names a remote that is not there.
    """
    from dvc.exceptions import DvcException
    from dvc.fs import get_fs_config

    found = _config(root)
    name = found.get("core", {}).get("remote")
    if not name:
        return None
    try:
        told = get_fs_config(found, name=name)
    except DvcException as error:
        raise UsageError(f"{root / '.dvc' / 'config'}: {error}; `vggflow doctor` looks at it") from error
    told = {**told, "url": without_password(str(told["url"]))}
    by_name = told.get("version_aware") or told.get("worktree")
    return None if by_name else {key: value for key, value in told.items() if key in TOLD}


def listing(root: Path, tracked: str) -> dict[str, str]:
    """The MD5 of each file in a folder that DVC tracks, by its path below it; empty where that is not known here.

    Raises:
        UsageError: its `.dvc` file can't be read.
    """
    version = dvc_file.read(root / f"{tracked}.dvc")
    if version is None:
        return {}
    cache = _config(root).get("cache", {}).get("dir") or root / ".dvc" / "cache"
    path = Path(cache) / "files" / HASH / version.md5[:2] / version.md5[2:]
    try:
        return {entry["relpath"]: entry[HASH] for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _config(root: Path) -> Any:
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        return Config(str(root / ".dvc"), validate=False)
    except DvcException as error:
        raise UsageError(f"{root / '.dvc' / 'config'} can't be read: {error}") from error


def md5(content: bytes) -> str:
    """The hash by which DVC names bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Reader:
    """Reads from a remote, many pieces at once."""

    def __init__(self, remote: Remote) -> None:
        from dvc.fs import get_cloud_fs

        kind, options, self._folder = get_cloud_fs({}, **remote)
        self._files = kind(**options)
        self._address = hide(str(remote["url"]))

    def read(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        """The bytes asked for, in order; none where the remote lacks the file. Whole files are checked by their MD5.

        Raises:
            VggflowError: the remote can't be read, or has other bytes under that hash.
        """
        pieces = list(_joined(wanted))
        paths = [
            self._files.join(self._folder, "files", HASH, each.md5[:2], each.md5[2:]) for each, _ in pieces
        ]
        # None, where all of a file is meant: else a remote would be asked how long it is first.
        starts = [None if each.size is None else each.offset for each, _ in pieces]
        ends = [None if each.size is None else each.offset + each.size for each, _ in pieces]
        try:
            # At once: one after the other, each would wait for an answer of some ten milliseconds.
            found = self._files.fs.cat_ranges(paths, starts, ends, on_error="return")
        except Exception as error:  # every kind of remote has its own
            raise self._unreadable(error) from error
        results: dict[int, bytes | None] = {}
        for (piece, numbers), content in zip(pieces, found, strict=True):
            self._check(piece, content)
            for number in numbers:
                results[number] = _part(content, piece, wanted[number])
        return [results[number] for number in range(len(wanted))]

    def _check(self, piece: Wanted, content: Any) -> None:
        if isinstance(content, FileNotFoundError):
            return
        if isinstance(content, Exception):
            raise self._unreadable(content)
        if piece.size is None and md5(content) != piece.md5:
            raise VggflowError(
                f"the DVC remote {self._address} has other bytes under {piece.md5}: `dvc push` from a workspace that "
                "has the right ones, after that file was removed there"
            )

    def _unreadable(self, error: Exception) -> VggflowError:
        why = " ".join(str(error).split()) or type(error).__name__
        return VggflowError(
            f"the DVC remote {self._address} can't be read ({why}): a node needs the credentials in its own environment"
        )


def _joined(wanted: Sequence[Wanted]) -> Iterable[tuple[Wanted, list[int]]]:
    """What is read at once, with the numbers of what is wanted of it: pieces of a file that lie close together."""
    order = sorted(range(len(wanted)), key=lambda number: (wanted[number].md5, wanted[number].offset))
    group: list[int] = []
    for number, following in pairwise([*order, None]):
        if number is None:
            continue
        group.append(number)
        if following is None or not _close(wanted[group[0]], wanted[number], wanted[following]):
            first, last = wanted[group[0]], wanted[number]
            end = max((_end(wanted[each]) for each in group), default=0)
            size = None if last.size is None else end - first.offset
            yield Wanted(first.md5, first.offset, size), group
            group = []


def _close(first: Wanted, last: Wanted, following: Wanted) -> bool:
    if first.md5 != following.md5 or last.size is None or following.size is None:
        return first == following
    return following.offset - _end(last) <= LARGEST_GAP_BYTES


def _end(piece: Wanted) -> int:
    return piece.offset + (piece.size or 0)


def _part(content: Any, read: Wanted, wanted: Wanted) -> bytes | None:
    if not isinstance(content, bytes):
        return None
    if wanted.size is None:
        return content
    begin = wanted.offset - read.offset
    part = content[begin : begin + wanted.size]
    # A file that ends before is not the one.
    return part if len(part) == wanted.size else None
