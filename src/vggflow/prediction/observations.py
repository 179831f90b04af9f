"""What is kept of a model's answers: how many of each class, and of some images confidence and pooled features.

Never a picture, and no name of one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import DataError

# Of so many images confidence and features are kept: more would tell apart what nobody needs to know.
MOST_IMAGES = 1_000
# Beyond it a 16-bit float is infinite.
LARGEST = float(np.finfo(np.float16).max)
CLASS, CONFIDENCE, FEATURES = "class", "confidence", "features"
FACTS = b"vggflow"
FORMAT = 1


@dataclass(frozen=True)
class Observations:
    """Of one model's answers to N images or more.

    Attributes:
        class_names: The K classes, in the order of the model.
        counts: How many answers each class has, shape (K,): of all images.
        classes: The answers to the N images that were chosen, as numbers of classes, shape (N,).
        confidence: Their probabilities, 0 to 1, shape (N,).
        features: Pooled features of the network, float16, shape (N, F); None where it gives none.
        since: When the first image was answered, in UTC.
        until: When the last one was.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    classes: NDArray[np.int64]
    confidence: NDArray[np.float64]
    features: NDArray[np.float16] | None
    since: datetime
    until: datetime

    @property
    def images(self) -> int:
        """How many were answered."""
        return int(self.counts.sum())

    @property
    def chosen(self) -> int:
        """Of how many confidence and features are kept."""
        return len(self.classes)


def of(
    class_names: Sequence[str],
    probabilities: NDArray[np.float64],
    features: NDArray[np.float32] | None,
    when: datetime,
    chosen: NDArray[np.bool_] | None = None,
) -> Observations:
    """Of answers that came at once.

    Args:
        class_names: The K classes.
        probabilities: Shape (N, K); a row of NaN is no answer.
        features: Shape (N, F).
        when: In UTC.
        chosen: Of which images confidence and features are kept, shape (N,); of all without it.
    """
    answered = ~np.isnan(probabilities).any(axis=1)
    kept = answered if chosen is None else answered & chosen
    return Observations(
        tuple(class_names),
        np.bincount(probabilities[answered].argmax(axis=1), minlength=len(class_names)),
        probabilities[kept].argmax(axis=1),
        probabilities[kept].max(axis=1, initial=0.0),
        None if features is None else in_16_bits(features[kept]),
        when,
        when,
    )


def in_16_bits(features: NDArray[np.float32]) -> NDArray[np.float16]:
    """As they are kept: half the space, three digits, and what is too large the largest that there is."""
    return np.clip(features, -LARGEST, LARGEST).astype(np.float16)


def merge(parts: Sequence[Observations], most: int = MOST_IMAGES, seed: int = 0) -> Observations:
    """Several as one; of each part images are chosen in proportion to all that it stands for.

    Args:
        parts: One or more of the same model.
        most: How many images are chosen in all.
        seed: Of the choice.
    """
    first = parts[0]
    if any(part.class_names != first.class_names for part in parts):
        raise ValueError("expected observations of the same classes")
    rows = _proportional(parts, most, seed)
    # Where no image could be read there are none either.
    given = [part.features for part in parts if part.features is not None and part.chosen]
    # One network may have given others when it was asked by another vggflow: these can't be put together.
    alike = len({part.shape[1] for part in given}) == 1
    complete = alike and sum(map(len, given)) == sum(part.chosen for part in parts)
    features = np.concatenate(given)[rows] if complete else None
    return Observations(
        first.class_names,
        np.sum([part.counts for part in parts], axis=0),
        np.concatenate([part.classes for part in parts])[rows],
        np.concatenate([part.confidence for part in parts])[rows],
        features,
        min(part.since for part in parts),
        max(part.until for part in parts),
    )


def _proportional(parts: Sequence[Observations], most: int, seed: int) -> NDArray[np.int64]:
    """Rows of all parts one behind the other: of each as large a share as it has of all images.

    As many as that allows: of a part that kept 200 of a million no more than 200 can speak for it.
    """
    images = np.array([part.images for part in parts], np.int64)
    chosen = np.array([part.chosen for part in parts], np.int64)
    begins = np.cumsum(chosen) - chosen
    total = int(images.sum())
    # Whole numbers: a part that kept all of its images is to lose none by rounding.
    count = min([most, *(int(c * total // i) for c, i in zip(chosen, images, strict=True) if i)])
    ends = np.cumsum(images) * count // max(1, total)
    quotas = np.minimum(np.diff(ends, prepend=0), chosen)
    random = np.random.default_rng(seed)
    drawn = [
        begin + np.sort(random.choice(there, quota, replace=False))
        for begin, there, quota in zip(begins, chosen, quotas, strict=True)
    ]
    return np.concatenate(drawn)


def write(observations: Observations, path: Path) -> None:
    """As Parquet, whole or not at all."""
    facts = {
        "format": FORMAT,
        "class_names": observations.class_names,
        "counts": observations.counts.tolist(),
        "since": observations.since.isoformat(),
        "until": observations.until.isoformat(),
    }
    columns = {
        CLASS: pa.array(observations.classes, pa.int32()),
        CONFIDENCE: pa.array(observations.confidence, pa.float32()),
    }
    if observations.features is not None:
        values = pa.array(observations.features.ravel(), pa.float16())
        columns[FEATURES] = pa.FixedSizeListArray.from_arrays(values, observations.features.shape[1])
    table = pa.table(columns).replace_schema_metadata({FACTS: json.dumps(facts)})
    with files.replacing(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def read(path: Path) -> Observations:
    """What `write` wrote.

    Raises:
        DataError: the file is damaged, or another one.
    """
    try:
        table = pq.read_table(path)
        facts = json.loads((table.schema.metadata or {})[FACTS])
        known = facts["format"] == FORMAT
        found = _of_table(table, facts) if known else None
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's errors are of these kinds
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} holds no observations of answers: {said}") from error
    if found is None:
        raise DataError(
            f"{path.name} has format {facts['format']}, expected {FORMAT}: it is another vggflow's, update this one"
        )
    return found


def _of_table(table: pa.Table, facts: Mapping[str, Any]) -> Observations:
    features = None
    if FEATURES in table.column_names:
        column = table[FEATURES].combine_chunks()
        width = column.type.list_size
        features = np.asarray(column.flatten()).reshape(len(table), width).astype(np.float16)
    return Observations(
        tuple(facts["class_names"]),
        np.array(facts["counts"], np.int64),
        table[CLASS].to_numpy().astype(np.int64),
        table[CONFIDENCE].to_numpy().astype(np.float64),
        features,
        datetime.fromisoformat(facts["since"]),
        datetime.fromisoformat(facts["until"]),
    )
