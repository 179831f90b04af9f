"""Shards: tar files of some hundred megabytes that hold images, `data/SPLIT/SPLIT-<16 hex digits>.tar`.

Other tools read them by WebDataset's rules (github.com/webdataset/webdataset): a member's key is its path up to the
first dot of its name, here `split/class/name`, and a member `__NAME__` is no sample. The first member is
`__index__`, a table of the images: path, size in bytes, SHA-256, and where its bytes begin, counted from the end of
the table. The shard is called by the SHA-256 of that table, so equal images make equal shards of equal names.
"""

import csv
import hashlib
import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

import pandas as pd
from pyarrow import ArrowInvalid
from pyarrow import csv as arrow_csv

from vggflow import files
from vggflow.data.places import UNFINISHED, Place
from vggflow.errors import DataError

INDEX = "__index__"
COLUMNS = {"path": "str", "bytes": "int64", "sha256": "str", "offset": "int64"}
# A table of so many bytes names three million images, more than a shard ever holds.
MOST_INDEX_BYTES = 512 * 1024**2


class Packed(NamedTuple):
    """An image that goes into a shard: its path below `data/`, where its bytes are now, and their SHA-256."""

    path: str
    place: Place
    size: int
    sha256: str


def write(data_folder: Path, split: str, images: Sequence[Packed]) -> Path:
    """Writes images of a split as one shard, whole or not at all.

    Raises:
        DataError: an image is no longer what it was.
        VggflowError: there is no room on the disk.
    """
    headers = [_header(_member_name(image.path), image.size) for image in images]
    index = _index(images, headers)
    shard = data_folder / split / f"{split}-{hashlib.sha256(index).hexdigest()[:16]}.tar"
    with files.replacing(shard, within=data_folder / UNFINISHED) as beside, beside.open("wb") as file:
        _append(file, _header(INDEX, len(index)), index)
        for image, header in zip(images, headers, strict=True):
            _append(file, header, _content(image))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return shard


def read_index(shard: Path, name: str | None = None) -> pd.DataFrame:
    """The images of a shard, in its order: columns `COLUMNS`; `offset` counts from the beginning of the file.

    Args:
        shard: The file.
        name: What the shard is called, without `.tar`, where the file has another name.

    Raises:
        DataError: the table is damaged; the message names what the file still tells of what is lost.
    """
    try:
        called = name or shard.stem
        index, end = _read_table(shard, called)
        options = arrow_csv.ConvertOptions(column_types={"path": "string", "sha256": "string"})
        parse = arrow_csv.ParseOptions(newlines_in_values=True)
        table = arrow_csv.read_csv(
            io.BytesIO(index), parse_options=parse, convert_options=options
        ).to_pandas()
        _refuse_ways_out(table, called.partition("-")[0])
        return cast("pd.DataFrame", table.astype(COLUMNS)).assign(offset=table["offset"] + end)
    except (OSError, ValueError, KeyError, ArrowInvalid, tarfile.TarError) as error:
        raise DataError(
            f"{shard} is damaged: its list of images can't be read ({_line(error)}); {_lost(shard)}; remove it, then "
            "`vggflow data restore` brings it back from the DVC remote"
        ) from error


def _refuse_ways_out(table: pd.DataFrame, split: str) -> None:
    """A shard comes from others: no path in it may lead out of its split, and no image beyond its file."""
    parts = table["path"].str.split("/")
    inside = parts.map(
        lambda names: len(names) > 2 and not {"", ".", ".."} & {*names} and "\0" not in "".join(names)
    )
    if not (inside & table["path"].str.startswith(f"{split}/")).all():
        raise ValueError("it names a path out of its split")
    if (table[["bytes", "offset"]] < 0).to_numpy().any():
        raise ValueError("it names a place before the beginning of the file")


def class_names(shard: Path) -> set[str]:
    """The class folders that its images lie in.

    Raises:
        DataError: as `read_index`.
    """
    return set(read_index(shard)["path"].str.split("/", n=2).str[1].unique())


def _read_table(shard: Path, name: str) -> tuple[bytes, int]:
    """The bytes of the table, and where they end with their filling."""
    with shard.open("rb") as file:
        first = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        if first.name != INDEX or first.size > MOST_INDEX_BYTES:
            raise ValueError(f"its first member is not {INDEX}")
        index = file.read(first.size)
    if hashlib.sha256(index).hexdigest()[:16] != name.rpartition("-")[2]:
        raise ValueError("it is not the list that the shard is called by")
    return index, tarfile.BLOCKSIZE + _filled(first.size)


def _lost(shard: Path) -> str:
    """What is lost with a shard whose table is damaged, as far as its members' headers still tell."""
    names: list[str] = []
    try:
        with tarfile.open(shard, "r:") as taped:
            for member in taped:
                names += [] if member.name == INDEX else [_path_of(member.name)]
    except (OSError, tarfile.TarError):
        pass  # what was found before that is told
    if not names:
        return "the names of its images can't be read either"
    names.sort()
    return f"lost are {len(names)} images at least, from {names[0]} to {names[-1]}"


def _index(images: Iterable[Packed], headers: Iterable[bytes]) -> bytes:
    rows, offset = [], 0
    for image, header in zip(images, headers, strict=True):
        rows.append((image.path, image.size, image.sha256, offset + len(header)))
        offset += len(header) + _filled(image.size)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    # All texts in quotes, so that any character may stand in a name.
    return table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).encode()


def _content(image: Packed) -> bytes:
    try:
        content = image.place.read()
    except OSError as error:
        raise DataError(f"{image.place} can't be read: {_line(error)}; nothing was removed") from error
    if len(content) != image.size or hashlib.sha256(content).hexdigest() != image.sha256:
        raise DataError(f"{image.place} changed while it was packed: run the same command again")
    return content


def _header(name: str, size: int) -> bytes:
    """A tar header that says nothing of who packed when, so equal images make equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _append(file: IO[bytes], header: bytes, content: bytes) -> None:
    file.write(header)
    file.write(content)
    file.write(bytes(_filled(len(content)) - len(content)))


def _filled(size: int) -> int:
    """A size in whole blocks of a tar."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _member_name(path: str) -> str:
    """WebDataset ends a key at the first dot of the name, so `cat.0.jpg` and `cat.1.jpg` would be one sample."""
    folder, _, name = path.rpartition("/")
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    return f"{folder}/{stem.replace('%', '%25').replace('.', '%2E')}{suffix}"


def _path_of(member_name: str) -> str:
    return member_name.replace("%2E", ".").replace("%25", "%")


def _line(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
