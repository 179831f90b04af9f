"""What the data folder holds already, so that an image that is there stays where it is."""

import hashlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vggflow.data import layout
from vggflow.data.contents import Contents
from vggflow.importing.splitting import group_of


class Name(NamedTuple):
    """What an image is called whatever its split: its class, its path below that, and its size in bytes."""

    class_name: str
    rest: PurePosixPath
    size: int


class ExistingImages:
    """The labelled images of a data folder, found by name, by bytes and by group.

    Args:
        data_folder: need not be there yet.
        names: of the images to be brought in; only files of the same sizes are ever read, once each.
        group: the regular expression of `Shares`.
    """

    def __init__(self, data_folder: Path, names: Collection[Name], group: str | None = None) -> None:
        self._contents = Contents(data_folder)
        self._sizes: dict[int, list[PurePosixPath]] = {name.size: [] for name in names}
        self._bytes: dict[int, dict[bytes, list[PurePosixPath]]] = {}
        self._groups: dict[str, str] = {}
        self.names: set[Name] = set()
        self.splits_of_others: set[str] = set()
        for name, size in self._contents.sizes().items():
            path = PurePosixPath(name)
            # Filled up with empty names: what lies above the class folders comes out with an empty rest.
            split, class_name, *rest = (*path.parts, "", "")[: max(3, len(path.parts))]
            if split in layout.SPLITS and rest != [""]:
                self._add(path, Name(class_name, PurePosixPath(*rest), size), names, group)

    def _add(self, path: PurePosixPath, name: Name, wanted: Collection[Name], group: str | None) -> None:
        split = path.parts[0]
        if name.size in self._sizes:
            self._sizes[name.size].append(path)
        if name in wanted:
            self.names.add(name)
        elif name.class_name != layout.UNLABELLED:
            self.splits_of_others.add(split)
        key = group_of(PurePosixPath(*path.parts[1:]), group)
        if key is not None and name.class_name != layout.UNLABELLED:
            # The walk has no order, so it must not decide where a group that lies in several splits goes on.
            self._groups[key] = min(split, self._groups.get(key, split))

    def sha256(self, path: PurePosixPath) -> bytes | None:
        """The SHA-256 of the image at a path; none where there is no such image."""
        place = self._contents.place(str(path))
        return bytes.fromhex(place.sha256()) if place.is_there() else None

    def split_of_group(self, key: str) -> str | None:
        """Where the images of a group are."""
        return self._groups.get(key)

    def like(self, content: bytes, class_name: str) -> list[PurePosixPath]:
        """The images of a class that have these bytes: `split/class/…`, sorted."""
        size = len(content)
        if size not in self._bytes:
            self._bytes[size] = self._read(self._sizes.get(size, []))
        found = self._bytes[size].get(hashlib.sha256(content).digest(), [])
        return [path for path in found if path.parts[1] == class_name]

    def _read(self, paths: list[PurePosixPath]) -> dict[bytes, list[PurePosixPath]]:
        found: dict[bytes, list[PurePosixPath]] = {}
        ordered = sorted(paths)
        for path, digest in zip(ordered, self._contents.digests(map(str, ordered)), strict=True):
            # What can't be read is for the gate to tell.
            if digest is not None:
                found.setdefault(bytes.fromhex(digest), []).append(path)
        return found
