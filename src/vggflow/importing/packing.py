"""Images packed into shards, and out of them again.

A file goes before a member of the same path, and a shard is whole or absent. So whatever a kill leaves, the data folder
holds the same images as before: what was written is there, what was read is removed last.
"""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from vggflow.data import layout
from vggflow.data.contents import Contents, Place
from vggflow.data.parallel import for_each
from vggflow.data.places import UNFINISHED
from vggflow.data.shards import Packed, read_index, write
from vggflow.errors import DataError, VggflowError
from vggflow.files import replacing

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Packing:
    """What was packed: images, and the shards they are in now."""

    images: int
    shards: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def pack(
    data_folder: Path, shard_bytes: int, progress: Progress | None = None, *, merge: bool = False
) -> Packing:
    """Packs the files in class folders into shards and removes them; a file replaces a member of the same path.

    Images lie in a shard in the order of the SHA-256 of their paths, so that each shard holds all classes. What is no
    plain file in a class folder stays where it is.

    Args:
        data_folder: The folder.
        shard_bytes: The images in a shard have so many bytes at most, unless one alone has more.
        progress: Called with the images done and in total; an image that was read, and not yet packed, is half done.
        merge: Whether shards of less than half of that are packed together.

    Raises:
        DataError: a shard is damaged, or a file changes or can't be read meanwhile.
        VggflowError: there is no room on the disk.
    """
    with _writing(data_folder):
        return _pack(data_folder, shard_bytes, progress or (lambda *_: None), merge=merge)


def _pack(data_folder: Path, shard_bytes: int, progress: Progress, *, merge: bool) -> Packing:
    contents = Contents(data_folder)
    files = _files(data_folder)
    replaced = _outdated(contents, set(files["path"])) | (
        _small(contents, shard_bytes // 2) if merge else set()
    )
    images = _images(contents, files, replaced, progress)
    made: list[Path] = []
    done = 0
    for chunk in _chunks(images, shard_bytes):
        made.append(write(data_folder, chunk[0].path.partition("/")[0], chunk))
        # Only where no older shard holds other bytes under these paths, which would show once the files are gone.
        if not replaced:
            _remove_files(data_folder, chunk)
        done += len(chunk)
        progress((len(images) + done) // 2, len(images))
    for shard in replaced - set(made):
        shard.unlink()
    if replaced:
        _remove_files(data_folder, images)
    return Packing(len(images), tuple(shard.name for shard in made))


def unpack(data_folder: Path, progress: Progress | None = None) -> Packing:
    """Writes each image of the shards as a file, then removes its shard.

    Raises:
        DataError: a shard, or an image in it, is damaged: nothing of it is removed.
        VggflowError: there is no room on the disk.
    """
    contents = Contents(data_folder)
    members, done = contents.members, 0
    with _writing(data_folder):
        for number, shard in enumerate(contents.shards):
            rows = members[members["shard"] == number]
            for path, sha256 in zip(rows["path"], rows["sha256"], strict=True):
                _write_file(contents, path, sha256)
                done += 1
                if progress:
                    progress(done, len(members))
            shard.unlink()
    return Packing(done, tuple(shard.name for shard in contents.shards))


def take_out(data_folder: Path, paths: Iterable[str]) -> None:
    """Makes members of shards files of their own, as for moving them to another class.

    Raises:
        DataError: as `unpack`.
    """
    contents = Contents(data_folder)
    wanted = contents.members[contents.members["path"].isin(set(paths))]
    with _writing(data_folder):
        for path, sha256 in zip(wanted["path"], wanted["sha256"], strict=True):
            _write_file(contents, path, sha256)
        for number in sorted(set(wanted["shard"])):
            shard = contents.shards[number]
            left = _members(contents, {shard}, without=set(wanted["path"]))
            new = write(data_folder, shard.parent.name, left) if left else None
            if new != shard:
                shard.unlink()


@contextmanager
def _writing(data_folder: Path) -> Iterator[None]:
    """Around what writes below the data folder.

    Raises:
        VggflowError: something there can't be written or removed.
    """
    try:
        yield
    except OSError as error:
        raise VggflowError(
            f"{error.filename or data_folder} can't be changed: {layout.why(error)}; no image is lost: mend that, then "
            "run the same command again"
        ) from error
    finally:
        shutil.rmtree(data_folder / UNFINISHED, ignore_errors=True)


def digest(place: Sequence[Any]) -> list[Any]:
    """The size and SHA-256 of the image at a `Place`; neither where it can't be read."""
    try:
        content = Place(*place).read()
    except OSError:
        return [0, ""]
    return [len(content), hashlib.sha256(content).hexdigest()]


def _files(data_folder: Path) -> pd.DataFrame:
    """The plain files in class folders: path and bytes."""
    rows = [
        (entry.path, entry.status.st_size)
        for entry in layout.walk(data_folder)
        if entry.kind == "file" and entry.status and _is_in_a_class(entry.path)
    ]
    return pd.DataFrame(rows, columns=["path", "bytes"]).astype({"path": "str", "bytes": "int64"})


def _is_in_a_class(path: str) -> bool:
    return path.count("/") > 1 and path.partition("/")[0] in layout.SPLITS


def _outdated(contents: Contents, files: set[str]) -> set[Path]:
    """Shards with members that a file, or another shard, holds as well."""
    own = contents.members["shard"].value_counts()
    found = {
        contents.shards[number] for number in contents.members["shard"][contents.members["path"].isin(files)]
    }
    doubled = {
        shard for number, shard in enumerate(contents.shards) if len(read_index(shard)) != own.get(number, 0)
    }
    return found | doubled


def _small(contents: Contents, fewest_bytes: int) -> set[Path]:
    """Shards of a split that has several with fewer bytes than that."""
    found: dict[str, set[Path]] = defaultdict(set)
    for shard in contents.shards:
        if shard.stat().st_size < fewest_bytes:
            found[shard.parent.name].add(shard)
    return {shard for small in found.values() if len(small) > 1 for shard in small}


def _images(contents: Contents, files: pd.DataFrame, replaced: set[Path], progress: Progress) -> list[Packed]:
    """All that is to be packed: files, and what the replaced shards hold besides."""
    names = files["path"].tolist()
    places = [Place(str(contents.folder / name)) for name in names]
    packed = _members(contents, replaced, without=set(names))
    total = len(packed) + len(names)
    for name, place, (size, sha256) in zip(names, places, for_each(digest, places), strict=True):
        if not sha256:
            raise DataError(f"{place} can't be read: mend or remove it, then run the same command again")
        packed.append(Packed(name, place, size, sha256))
        progress(len(packed) // 2, total)
    return packed


def _members(contents: Contents, of: set[Path], without: set[str]) -> list[Packed]:
    numbers = [number for number, shard in enumerate(contents.shards) if shard in of]
    rows = contents.members[contents.members["shard"].isin(numbers)]
    rows = rows[~rows["path"].isin(without)]
    columns = (rows["path"].tolist(), rows.index.tolist(), rows["bytes"].tolist(), rows["sha256"].tolist())
    return [
        Packed(path, contents.member(path, row), size, sha256)
        for path, row, size, sha256 in zip(*columns, strict=True)
    ]


def _chunks(images: Sequence[Packed], most_bytes: int) -> Iterator[list[Packed]]:
    """The images of each shard, in a fixed order that mixes classes."""
    ordered = sorted(images, key=lambda each: hashlib.sha256(each.path.encode()).digest())
    for split in layout.SPLITS:
        chunk: list[Packed] = []
        size = 0
        for image in ordered:
            if not image.path.startswith(f"{split}/"):
                continue
            if chunk and size + image.size > most_bytes:
                yield chunk
                chunk, size = [], 0
            chunk.append(image)
            size += image.size
        if chunk:
            yield chunk


def _write_file(contents: Contents, path: str, sha256: str) -> None:
    target = contents.folder / path
    if target.exists():
        return
    place = contents.place(path)
    content = place.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{place} is damaged: not the bytes that were packed; remove {Path(place.file).name}, then "
            "`vggflow data restore` brings it back from the DVC remote"
        )
    with replacing(target, within=contents.folder / UNFINISHED) as beside:
        beside.write_bytes(content)


def _remove_files(data_folder: Path, images: Iterable[Packed]) -> None:
    """Removes packed files, and the folders that they leave empty."""
    folders: set[Path] = set()
    for image in images:
        if image.place.size is None:
            (data_folder / image.path).unlink(missing_ok=True)
            # Not the split itself: its shards lie there.
            folders |= {
                data_folder / folder for folder in PurePosixPath(image.path).parents if folder.parts[1:]
            }
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
