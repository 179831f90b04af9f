"""Test images that a model has seen in training: they say nothing about new images, and are left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from vggflow.data import manifest as manifests
from vggflow.data.duplicates import NearLimits, candidates
from vggflow.data.images import ImageError
from vggflow.data.likeness import similarity


@dataclass(frozen=True)
class Seen:
    """The paths of images to leave out, sorted.

    Attributes:
        exactly: The same bytes stand in a training manifest.
        nearly: Another file there looks the same.
    """

    exactly: tuple[str, ...] = ()
    nearly: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.exactly, *self.nearly)


@dataclass(frozen=True)
class Near:
    """How near copies are found: by hash among all, then by the pixels of what still lies in the data folder.

    Attributes:
        manifest: The manifest of the data folder, whole.
        data_folder: Where its paths start.
        limits: When two pictures count as copies.
    """

    manifest: pd.DataFrame
    data_folder: Path
    limits: NearLimits


def find_seen(images: pd.DataFrame, trained_on: Sequence[pd.DataFrame], near: Near | None = None) -> Seen:
    """Looks the images up in what models were trained on: train, and valid, which chose their best epochs.

    Args:
        images: The rows of the manifest that were scored, all of one split. If that is valid itself, only
            train counts as seen.
        trained_on: The manifests that the models were trained on.
        near: How near copies are found; only equal bytes are looked for without it.
    """
    if images.empty or not trained_on:
        return Seen()
    splits = [split for split in ("train", "valid") if split != images["split"].iloc[0]]
    learned = pd.concat([manifests.labelled(rows, split) for rows in trained_on for split in splits])
    same = images["sha256"].isin(learned["sha256"])
    nearly = [] if near is None else _nearly(images[~same], learned, near)
    return Seen(tuple(sorted(images["path"][same])), tuple(sorted(nearly)))


def _nearly(images: pd.DataFrame, learned: pd.DataFrame, near: Near) -> list[str]:
    asked = images[images["detail"] >= near.limits.detail]
    known = learned[learned["detail"] >= near.limits.detail].drop_duplicates("sha256")
    places = near.manifest.drop_duplicates("sha256").set_index("sha256")["path"]
    found: set[str] = set()
    for one, other in _pairs(asked, known, near.limits.hash_distance):
        path = asked["path"].iloc[one]
        place = places.get(known["sha256"].iloc[other])
        if path not in found and _alike(near, path, place):
            found.add(path)
    return sorted(found)


def _pairs(asked: pd.DataFrame, known: pd.DataFrame, hash_distance: int) -> Iterator[tuple[int, int]]:
    """Positions in both tables of pictures whose hashes are near."""
    if asked.empty or known.empty:
        return
    together = pd.concat([asked, known], ignore_index=True)
    for one, other in candidates(together, hash_distance).tolist():
        if one < len(asked) <= other:
            yield one, other - len(asked)


def _alike(near: Near, path: str, place: str | None) -> bool:
    """Whether the pixels are alike; of a training image that is gone only the hash is left and has to do."""
    if place is None:
        return True
    one, other = (near.data_folder / PurePosixPath(name) for name in (path, place))
    try:
        return similarity(one, other) >= near.limits.similarity
    except ImageError:
        return True
