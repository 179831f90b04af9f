"""Test images that a model has seen in training: they say nothing about new images, and are left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from vggflow.data import manifest as manifests
from vggflow.data.contents import Contents
from vggflow.data.schema import CROP_HASHES
from vggflow.gate.candidate_pairs import NEARER_BY
from vggflow.gate.hash_search import neighbours
from vggflow.gate.near_copies import NearLimits
from vggflow.gate.pixel_similarity import similarity


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

    @cached_property
    def contents(self) -> Contents:
        """Where its images are."""
        return Contents(self.data_folder)


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
    # What was unreadable or excluded then was not learned from, so it makes nothing seen.
    learned = pd.concat([manifests.labelled(rows, split) for rows in trained_on for split in splits])
    same = images["sha256"].isin(learned["sha256"])
    nearly = [] if near is None else _nearly(images[~same], learned, near)
    return Seen(tuple(sorted(images["path"][same])), tuple(sorted(nearly)))


def _nearly(images: pd.DataFrame, learned: pd.DataFrame, near: Near) -> list[str]:
    # Pictures with little to see have hashes that collide, so only their bytes count.
    asked = images[images["detail"] >= near.limits.detail]
    known = learned[learned["detail"] >= near.limits.detail].drop_duplicates("sha256")
    # Found by its bytes: a training image may lie elsewhere by now, or nowhere.
    places = near.manifest.drop_duplicates("sha256").set_index("sha256")["path"]
    found: set[str] = set()
    # A look decodes both files, so near hashes come first and a picture that is found is not asked again.
    for one, other in _pairs(asked, known, near.limits.hash_distance):
        path = str(asked["path"].iloc[one])
        if path not in found and _alike(near, path, places.get(known["sha256"].iloc[other])):
            found.add(path)
    return sorted(found)


def _pairs(asked: pd.DataFrame, known: pd.DataFrame, hash_distance: int) -> list[tuple[int, int]]:
    """Positions in both tables of pictures whose hashes are near, the nearest first."""
    # Hashes of detailed pictures are never null, and 64 bits don't fit into int64.
    one, other = (table["perceptual_hash"].to_numpy(dtype=np.uint64) for table in (asked, known))
    cut_one, cut_other = (table[list(CROP_HASHES)].to_numpy(dtype=np.uint64) for table in (asked, known))
    crops = len(CROP_HASHES)
    whole = neighbours(one, other, hash_distance)
    # A row per crop, five to a picture: `// crops` gives the picture. The distance stays at 2 or more,
    # which `neighbours` asks for, since the setting begins at 4.
    asked_crops = neighbours(cut_one.ravel(), other, hash_distance - NEARER_BY)
    known_crops = neighbours(one, cut_other.ravel(), hash_distance - NEARER_BY)
    distances = np.concatenate([whole.distance, asked_crops.distance, known_crops.distance])
    rows = np.concatenate([whole.query, asked_crops.query // crops, known_crops.query])
    partners = np.concatenate([whole.base, asked_crops.base, known_crops.base // crops])
    order = np.argsort(distances, kind="stable")
    # A pair may be found as a whole and by several crops; it stays where it is nearest.
    return list(dict.fromkeys(zip(rows[order].tolist(), partners[order].tolist(), strict=True)))


def _alike(near: Near, path: str, place: str | None) -> bool:
    """Whether the pixels are alike; of a training image that is gone only the hash is left and has to do."""
    if place is None:
        return True
    likeness = similarity(list(near.contents.places([path, place])))
    # None: a file can't be decoded now. One test image less is better than one that flatters.
    return likeness is None or likeness >= near.limits.similarity
