"""Files that a folder no longer has, but whose images it still holds: packed into shards, or unpacked from them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vggflow.data.places import is_shard, shards
from vggflow.errors import DataError
from vggflow.versioning.data_versions import Cache


def missed(folder: Path, gone: Mapping[str, str], cache: Cache) -> dict[str, str]:
    """Those of the files that are gone whose images are not here any more; paths to MD5s.

    Args:
        folder: The data folder.
        gone: Paths below it to the MD5s of what lay there.
        cache: DVC's, for what a shard that is gone held.
    """
    if not any(map(is_shard, gone)) and not shards(folder):
        return dict(gone)
    here = _Here(folder)
    return {
        path: md5
        for path, md5 in gone.items()
        if not (here.holds_all(path, cache.path(md5)) if is_shard(path) else here.holds(path, md5))
    }


class _Here:
    """What a data folder holds."""

    def __init__(self, folder: Path) -> None:
        from vggflow.data.contents import Contents  # pandas, which a workspace of files need not load

        self._contents = Contents(folder)
        self._hashes = set(self._contents.members["sha256"])
        self._paths = set(self._contents.members["path"])

    def holds(self, path: str, md5: str) -> bool:
        """Whether a shard has the bytes that lay at a path."""
        return path in self._paths and self._hash(path, "md5") == md5

    def holds_all(self, shard: str, before: Path) -> bool:
        """Whether all images of a shard that is gone are in other shards, or files."""
        from vggflow.data.shards import read_index

        try:
            index = read_index(before, Path(shard).stem)
        except DataError:  # nobody knows what it held
            return False
        return all(
            sha256 in self._hashes or self._hash(path, "sha256") == sha256
            for path, sha256 in zip(index["path"], index["sha256"], strict=True)
        )

    def _hash(self, path: str, kind: str) -> str:
        try:
            return hashlib.new(kind, self._contents.place(path).read(), usedforsecurity=False).hexdigest()
        except OSError:
            return ""
