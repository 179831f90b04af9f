"""Where the bytes of an image are: a file of its own, or a member of a shard."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

# What is being written, below the data folder: hidden, so that what a kill leaves there is no image to anybody.
UNFINISHED = ".importing"

_SHARD = re.compile(r"(train|valid|test)-([0-9a-f]{16})\.tar")


class Place(NamedTuple):
    """Where the bytes of an image are; JSON can hold it, so processes can be told.

    Attributes:
        file: The path of the file.
        name: The image's path below `data/` where it is a member of a shard; else empty.
        offset: Where its bytes begin in the file.
        size: How many they are; null for all of the file.
    """

    file: str
    name: str = ""
    offset: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.name}" if self.name else self.file

    @property
    def path(self) -> Path:
        """The path of the image as a file, which that of a member would be."""
        # A shard lies in the folder of its split, and names begin with that.
        return Path(self.file).parents[1] / self.name if self.name else Path(self.file)

    @property
    def suffix(self) -> str:
        """The extension of the image in small letters, with its dot."""
        return Path(self.name or self.file).suffix.lower()

    def size_bytes(self) -> int:
        """How many bytes it has.

        Raises:
            OSError: the file is gone.
        """
        return Path(self.file).stat().st_size if self.size is None else self.size

    def is_there(self) -> bool:
        """Whether there is such a file, long enough."""
        path = Path(self.file)
        return path.is_file() and (self.size is None or path.stat().st_size >= self.offset + self.size)

    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal.

        Raises:
            OSError: as `read`.
        """
        return hashlib.sha256(self.read()).hexdigest()

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: they can't be read, or the shard ends before.
        """
        if self.size is None:
            return Path(self.file).read_bytes()
        with Path(self.file).open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError("the shard ends before the end of this image")
        return content


def is_shard(path: str) -> bool:
    """Whether a path below the data folder is called like a shard of its split."""
    folder, _, name = path.rpartition("/")
    found = _SHARD.fullmatch(name)
    return found is not None and found[1] == folder


def shards(data_folder: Path) -> list[Path]:
    """The shards of a data folder, by name."""
    found = (path for split in ("train", "valid", "test") for path in (data_folder / split).glob("*.tar"))
    return sorted(path for path in found if is_shard(path.relative_to(data_folder).as_posix()))


def path_of(image: Path | Place) -> Path:
    """The path of an image as a file; see `Place.path`."""
    return image.path if isinstance(image, Place) else image
