"""Deliveries to clones of one git and DVC remote."""

from pathlib import Path

from tiny import COLOURS, draw

from vggflow.commands import data
from vggflow.importing.import_images import ImportOptions
from vggflow.versioning import data_versions
from vggflow.workspace import Workspace


def delivery(folder: Path, name: str, count: int = 2) -> Path:
    """Red pictures for train that nobody else has."""
    for number in range(count):
        draw(folder / name / "train/red" / f"{name}-{number}.png", COLOURS["red"], hash_of(name) + number)
    return folder / name


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[:4], "big")


def deliver(here: Workspace, name: str) -> None:
    """An import of pictures with these names."""
    data.import_data(here, delivery(here.root.parent, name), ImportOptions())


def holds(here: Workspace, name: str) -> bool:
    """Whether both pictures of a delivery are there."""
    return all((here.root / f"data/train/red/{name}-{number}.png").is_file() for number in range(2))


def committed_files(here: Workspace) -> set[str]:
    """What the committed data.dvc names."""
    version = data_versions.committed(here, "data")
    assert version is not None
    return set(data_versions.Cache(here).listing(version) or {})
