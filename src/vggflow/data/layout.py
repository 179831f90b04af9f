"""How images lie in the data folder: `data/{train,valid,test}/<class>/…`, with `test/unknown/` unlabelled."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vggflow.errors import DataError

SPLITS = ("train", "valid", "test")
UNLABELLED = "unknown"
SAMPLE = "sample"


@dataclass(frozen=True)
class ClassFolder:
    """A second-level folder, which may be empty: `train/cats`."""

    split: str
    class_name: str

    def __str__(self) -> str:
        return f"{self.split}/{self.class_name}"


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
    folders = tuple(
        ClassFolder(split, name) for split in present for name in _folder_names(data_folder / split)
    )
    for split in ("train", "valid"):
        if not any(folder.split == split for folder in folders):
            raise DataError(
                f"no class folders in {data_folder / split}: expected {data_folder.name}/{split}/<class>/ "
                "with one folder per class"
            )
    return folders


def files(data_folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below the data folder that is no folder, with its POSIX path; `data/sample` is left out."""
    yield from _walk(data_folder, "")


def _walk(folder: Path | str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
            elif path != SAMPLE:
                yield from _walk(entry.path, path + "/")


def _folder_names(folder: Path) -> list[str]:
    return sorted(
        child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
