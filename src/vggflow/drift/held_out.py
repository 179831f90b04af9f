"""A model's answers on held-out images: what those of now are compared with, computed once and kept.

Valid and test, never train: what a network has learned by heart it sees otherwise than anything new.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from vggflow.data import manifest as manifests
from vggflow.data.contents import Contents, Place
from vggflow.drift import compare
from vggflow.errors import DataError, VggflowError
from vggflow.prediction import observations
from vggflow.prediction.observations import MOST_IMAGES, Observations
from vggflow.prediction.predictor import Predictor, refuse_unread

SPLITS = ("valid", "test")
# Of several workspaces on a machine; a megabyte each.
MODELS_KEPT = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """Images as they were when a model was measured on them: N files and their SHA-256."""

    places: tuple[Place, ...]
    sha256: tuple[str, ...]


def images(manifest: pd.DataFrame, data_folder: Path) -> HeldOut:
    """What is held out in a manifest and still lies in the data folder as it was, at most a thousand images.

    Raises:
        DataError: they are too few.
    """
    rows = pd.concat([manifests.labelled(manifest, split) for split in SPLITS])
    places = zip(Contents(data_folder).places(rows["path"]), rows["sha256"], strict=True)
    there = [(place, digest) for place, digest in places if place.is_there()]
    # Spread over all of them, since a manifest is sorted by class.
    chosen = np.linspace(0, len(there) - 1, min(MOST_IMAGES, len(there))).astype(int)
    same = [there[row] for row in chosen if _sha256(there[row][0]) == there[row][1]]
    if len(same) < compare.FEWEST_IMAGES:
        raise DataError(
            f"{data_folder} holds {len(same)} of the {len(rows)} images of valid and test that the champion was "
            f"measured on, at least {compare.FEWEST_IMAGES} are needed: `vggflow data restore`, or deliver more"
        )
    return HeldOut(tuple(place for place, _ in same), tuple(digest for _, digest in same))


def _sha256(place: Place) -> str:
    try:
        return place.sha256()
    except OSError:  # gone since, or not to be read: not what it was
        return ""


def answers(predictor: Predictor, held_out: HeldOut, progress: Progress) -> Observations:
    """A model's answers on them, a row each.

    Raises:
        DataError: one can't be read.
    """
    now = datetime.now(UTC)
    parts, done = [], 0
    with closing(predictor.answers(held_out.places)) as found:
        for part in found:
            refuse_unread(held_out.places[done:], part.errors, done)
            parts.append(observations.of(predictor.info.class_names, part.probabilities, part.features, now))
            done += len(part.errors)
            progress(done, len(held_out.places))
    return observations.merge(parts)


def kept(
    predictor: Predictor, model_sha256: str, held_out: HeldOut, progress: Progress, folder: Path
) -> Observations:
    """The same, from a folder where they lie since they were computed: a look every night reads them.

    Args:
        predictor: The model.
        model_sha256: Of its file.
        held_out: What it answers.
        progress: Called with the images done and in total.
        folder: Where answers are kept, by the model and the images.
    """
    named = hashlib.sha256("\n".join([model_sha256, *held_out.sha256]).encode()).hexdigest()
    path = folder / f"{named}.parquet"
    with suppress(DataError):
        return observations.read(path)
    found = answers(predictor, held_out, progress)
    # On a full disk, or a read-only one, they are computed again the next time.
    with suppress(OSError, VggflowError):
        observations.write(found, path)
        for old in sorted(folder.glob("*.parquet"), key=lambda each: each.stat().st_mtime)[:-MODELS_KEPT]:
            old.unlink(missing_ok=True)
    return found
