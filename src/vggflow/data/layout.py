"""How images lie in the data folder: `data/{train,valid,test}/<class>/…`, with `test/unknown/` unlabelled."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vggflow.data.images import EXTENSIONS
from vggflow.data.places import is_shard, shards
from vggflow.errors import DataError

SPLITS = ("train", "valid", "test")
UNLABELLED = "unknown"
SAMPLE = "sample"

# DVC's own links into its cache are not the user's: with `cache.type symlink` every image is one.
_DVC_CACHE = "/files/md5/"


@dataclass(frozen=True)
class ClassFolder:
    """A second-level folder, which may be empty: `train/cats`."""

    split: str
    class_name: str

    def __str__(self) -> str:
        return f"{self.split}/{self.class_name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something found below the data folder: `reason` says why it can't be an image, null for a file or a shard.

    `path` is POSIX and relative to the data folder; `status` is what the file system tells of a plain file.
    """

    path: str
    kind: Literal["file", "shard", "link", "closed", "stray"]
    reason: str | None = None
    status: os.stat_result | None = None


def class_folders(data_folder: Path) -> tuple[ClassFolder, ...]:
    """The class folders of all splits, sorted, empty ones too.

    Raises:
        DataError: there is no data folder, or it lacks a split that training needs.
    """
    if not data_folder.is_dir():
        raise DataError(f"no data folder {data_folder}: bring images in with `vggflow data import`")
    present = [split for split in SPLITS if (data_folder / split).is_dir()]
    if not present:
        raise DataError(
            f"no images in {data_folder}: expected {data_folder.name}/{{train,valid,test}}/<class>/; "
            "bring images in with `vggflow data import`"
        )
    packed = _packed_folders(data_folder)
    folders = tuple(
        ClassFolder(split, name)
        for split in present
        for name in sorted({*_folder_names(data_folder / split), *packed[split]})
    )
    for split in ("train", "valid"):
        if not any(folder.split == split for folder in folders):
            raise DataError(
                f"no class folders in {data_folder / split}: expected {data_folder.name}/{split}/<class>/ "
                "with one folder per class"
            )
    return folders


def known_classes(data_folder: Path) -> set[str]:
    """The classes that have a folder, in whichever split; none where there is no data folder yet."""
    present = [data_folder / split for split in SPLITS if (data_folder / split).is_dir()]
    names = {name for folder in present for name in _folder_names(folder)}
    return names.union(*_packed_folders(data_folder).values()) - {UNLABELLED}


def holds_files(data_folder: Path, folder: ClassFolder) -> bool:
    """Whether there is any file in a class folder, or any member of a shard."""
    here = data_folder / str(folder)
    # A class without a folder of its own was found in a shard.
    return (
        any(path.is_file() for path in here.rglob("*"))
        or folder.class_name in (_packed_folders(data_folder)[folder.split])
    )


def walk(data_folder: Path) -> Iterator[Entry]:
    """Everything below the data folder but ordinary folders and `sample/`, in no order; opens no file."""
    yield from _walk(data_folder, data_folder, "")


def obstacles(data_folder: Path) -> list[tuple[str, str]]:
    """What DVC would stumble over or change, as pairs of path and reason: links, and what can't be opened."""
    found = []
    for entry in walk(data_folder):
        if entry.kind in ("link", "closed"):
            found.append((entry.path, str(entry.reason)))
        elif not os.access(data_folder / entry.path, os.R_OK):
            found.append((entry.path, "Permission denied"))
    return sorted(found)


def refuse_obstacles(data_folder: Path) -> None:
    """Called before DVC touches the folder, since DVC stops at a broken link and replaces others by copies.

    Raises:
        DataError: there are such files; the message names the first one.
    """
    found = obstacles(data_folder)
    if found:
        path, reason = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise DataError(f"{data_folder / path}: {reason}{more}; DVC can't keep it: put a readable file there")


def is_unicode(path: str) -> bool:
    """Whether a name can be written down; on Linux it may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: str) -> str:
    """A name that can be written down: bytes that are not UTF-8 become escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def why(error: Exception) -> str:
    """What the operating system says of a failure, without the path."""
    return getattr(error, "strerror", None) or str(error)


def _walk(root: Path, folder: Path, prefix: str) -> Iterator[Entry]:
    try:
        # Listed whole, or each level on the way down would hold a folder open.
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # gone since its parent was listed
        return
    except OSError as error:
        yield Entry(prefix.rstrip("/"), "closed", f"the folder can't be opened: {why(error)}")
        return
    for entry in entries:
        path = prefix + entry.name
        if not is_unicode(path):
            yield Entry(shown(path), "closed", "the name is not valid UTF-8")
        # `is_dir` follows links, and one that leads back up has no end.
        elif entry.is_symlink() or not entry.is_dir():
            yield from _leaf(root, entry, path)
        elif path != SAMPLE:
            if Path(entry.name).suffix.lower() in EXTENSIONS:
                yield Entry(path, "stray", "a folder named like an image")
            yield from _walk(root, Path(entry.path), path + "/")


def _leaf(root: Path, entry: "os.DirEntry[str]", path: str) -> Iterator[Entry]:
    try:
        link = entry.is_symlink()
        yield _link(root, Path(entry.path), path) if link else _file(path, entry.stat(follow_symlinks=False))
    except FileNotFoundError:  # gone since its folder was listed
        return
    except OSError as error:
        yield Entry(path, "closed", why(error))


def _file(path: str, status: os.stat_result) -> Entry:
    # Whoever opens a pipe waits for somebody to write into it.
    if not stat.S_ISREG(status.st_mode):
        return Entry(path, "stray", "not a regular file")
    if any(part.startswith(".") for part in path.split("/")):
        return Entry(path, "stray", "a hidden file", status)
    return Entry(path, "shard" if is_shard(path) else "file", None, status)


def _link(root: Path, link: Path, path: str) -> Entry:
    target = shown(str(link.readlink()))
    try:
        resolved = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        broken = isinstance(error, FileNotFoundError | NotADirectoryError | RuntimeError)
        reason = f"a broken link to {target}" if broken else f"a link to {target}: {why(error)}"
        return Entry(path, "link", reason)
    if _DVC_CACHE in resolved.as_posix() and resolved.is_file():
        return _file(path, resolved.stat())
    if resolved.is_relative_to(root.resolve()):
        return Entry(path, "link", f"a link to {target}")
    return Entry(path, "link", f"a link out of the data folder to {target}")


def _packed_folders(data_folder: Path) -> dict[str, set[str]]:
    """The class folders that members of shards lie in, by split."""
    found: dict[str, set[str]] = {split: set() for split in SPLITS}
    for shard in shards(data_folder):
        from vggflow.data.shards import class_names  # pandas, which a workspace without shards need not load

        found[shard.name.partition("-")[0]] |= class_names(shard)
    return found


def _folder_names(folder: Path) -> list[str]:
    try:
        children = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder} can't be opened: {why(error)}") from error
    return sorted(
        child.name
        for child in children
        if child.is_dir(follow_symlinks=False) and not child.name.startswith(".") and is_unicode(child.name)
    )
