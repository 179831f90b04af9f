"""Test images that a model has seen in training: they say nothing about new images, and are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd


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


def find_seen(images: pd.DataFrame, trained_on: Sequence[pd.DataFrame]) -> Seen:
    """Looks the images up in what models were trained on: train, and valid, which chose their best epochs.

    Args:
        images: The rows of the manifest that were scored, all of one split. If that is valid itself, only
            train counts as seen.
        trained_on: The manifests that the models were trained on.
    """
    if images.empty or not trained_on:
        return Seen()
    split = images["split"].iloc[0]
    learned = pd.concat([rows[rows["split"].isin({"train", "valid"} - {split})] for rows in trained_on])
    exactly = images[images["sha256"].isin(learned["sha256"])]
    return Seen(tuple(sorted(exactly["path"])))
