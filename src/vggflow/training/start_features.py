"""What the start weights see in images: a vector each, for questions about the images rather than about a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.data import manifest as manifests
from vggflow.features import limit
from vggflow.features.batches import Examples, Rows, Shape
from vggflow.features.compute import PIXELS, Report
from vggflow.features.store import Store
from vggflow.models import builder, start_weights
from vggflow.models import cut as prefix
from vggflow.settings import ModelSettings
from vggflow.training import hardware
from vggflow.training.checkpoints import digest
from vggflow.training.frozen_features import Cache, FrozenFeatures, reading
from vggflow.training.job import TrainingJob
from vggflow.training.precision import computing_in

LAST_OF_THE_CONVOLUTIONS = "block5_pool"
ROWS_AT_A_TIME = 1024


def start_features(job: TrainingJob, splits: Sequence[Examples], report: Report) -> NDArray[np.float32]:
    """The last convolutions' answer for each image before any training, averaged over its places.

    Shape (n, channels), the images of all splits in their order.
    Features that a training kept are found, and what is computed here a training finds.

    Raises:
        DataError: an image is gone or another one.
        SettingsError: the settings don't fit the machine.
        WeightsError: the start weights are missing or don't fit, or give no finite numbers.
    """
    settings = job.settings
    # One device, however many a training has: a machine that has fewer can look at images as well.
    machine = hardware.prepare(settings.train.model_copy(update={"devices": 1}), job.state_folder)
    keras.utils.set_random_seed(settings.train.seed)
    with machine.scope():
        model, cut = _network(job, settings.model)
    cache = Cache(job.state_folder, job.feature_limit_bytes, settings.train, machine)
    shape = Shape(settings.model.image_size_px, settings.model.resize)
    with machine.scope(), computing_in(model, machine.policy):
        stores = FrozenFeatures(model, splits, shape, cache).fill([cut], report)
    return _averaged(stores[cut].rows([image for split in splits for image in split.hashes]))


@dataclass(frozen=True)
class Found:
    """Features that were in the cache: of these splits, one after the other, shape (n, channels)."""

    splits: tuple[str, ...]
    features: NDArray[np.float32]


def cached(job: TrainingJob, images: Mapping[str, Sequence[str]], most_bytes: int) -> Found | None:
    """What `start_features` would give, as far as it is kept, whatever device, precision or backend computed it.

    Of the splits of which all is there; None where that is not so of train, or where it takes more than `most_bytes`
    to read. Nothing goes through the network: it is built where something may be kept, which its digest names.

    Args:
        job: Whose start weights and settings.
        images: The hashes of each split's images, train first.
        most_bytes: What is read at most.

    Raises:
        WeightsError: the start weights don't fit.
    """
    shape = Shape(job.settings.model.image_size_px, job.settings.model.resize)
    kinds = [
        kind
        for kind in limit.kinds(job.state_folder)
        if kind.reading == reading(shape) and kind.cut != PIXELS
    ]
    settings = job.settings.model
    if settings.head == "fc":  # 120 million weights behind the cut, of which nothing is asked
        settings = settings.model_copy(update={"head": "flatten"})
    if not kinds or not start_weights.are_here(settings, job.weights_folder):
        return None
    model, cut = _network(job, settings)
    networks = set()
    for policy in hardware.POLICIES:
        with computing_in(model, policy):
            networks.add(digest(prefix.prefix(model, [cut])))
    stores = [Store(job.state_folder, kind) for kind in kinds if kind.cut == cut and kind.network in networks]
    whole = [(store, _whole(store, images)) for store in stores]
    store, splits = max(whole, key=lambda each: len(each[1]), default=(None, ()))
    wanted = [image for split in splits for image in images[split]]
    if store is None or not wanted or len(wanted) * store.kind.row_bytes > most_bytes:
        return None
    # Asked again for all of them together, as `rows` gives what was asked for last.
    return None if store.missing(wanted) else Found(splits, _averaged(store.rows(wanted)))


def _whole(store: Store, images: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The splits of which the store has all images; none where it has not all of the first."""
    found = tuple(split for split, hashes in images.items() if hashes and not store.missing(hashes))
    return found if found[:1] == tuple(images)[:1] else ()


def _network(job: TrainingJob, settings: ModelSettings) -> tuple[keras.Model, str]:
    """With the start weights, and the layer that a phase of the same convolutions is cut at, by the head."""
    names = manifests.class_names(job.manifest)
    model = builder.build(settings, names, job.weights_folder, job.settings.train.seed)
    cut = prefix.cheapest_cut(model, builder.frozen_layers(model, LAST_OF_THE_CONVOLUTIONS))
    if cut is None:
        raise AssertionError("the convolutions can always be cut off")
    return model, cut


def _averaged(rows: Rows) -> NDArray[np.float32]:
    """Rows of maps (n, H, W, C) or of what is averaged already (n, C)."""
    parts = []
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        chunk = rows.gather(np.arange(start, min(start + ROWS_AT_A_TIME, len(rows))))
        parts.append(np.asarray(chunk, np.float32).reshape(len(chunk), -1, chunk.shape[-1]).mean(axis=1))
    return np.concatenate(parts)
