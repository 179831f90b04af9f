"""What the start weights see in images: a vector each, for questions about the images rather than about a model."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.data import manifest as manifests
from vggflow.features.batches import Examples, Rows, Shape
from vggflow.features.compute import Report
from vggflow.models import builder
from vggflow.models import cut as prefix
from vggflow.training import hardware
from vggflow.training.frozen_features import Cache, FrozenFeatures
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
    machine = hardware.prepare(settings.train, job.state_folder, job.devices)
    keras.utils.set_random_seed(settings.train.seed)
    with machine.scope():
        names = manifests.class_names(job.manifest)
        model = builder.build(settings.model, names, job.weights_folder, settings.train.seed)
    # The layer that a phase of the same convolutions is cut at, which depends on the head.
    cut = prefix.cheapest_cut(model, builder.frozen_layers(model, LAST_OF_THE_CONVOLUTIONS))
    if cut is None:
        raise AssertionError("the convolutions can always be cut off")
    cache = Cache(job.state_folder, job.feature_limit_bytes, settings.train, machine)
    shape = Shape(settings.model.image_size_px, settings.model.resize)
    with machine.scope(), computing_in(model, machine.policy):
        stores = FrozenFeatures(model, splits, shape, cache).fill([cut], report)
    return _averaged(stores[cut].rows([image for split in splits for image in split.hashes]))


def _averaged(rows: Rows) -> NDArray[np.float32]:
    """Rows of maps (n, H, W, C) or of what is averaged already (n, C)."""
    parts = []
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        chunk = rows.gather(np.arange(start, min(start + ROWS_AT_A_TIME, len(rows))))
        parts.append(np.asarray(chunk, np.float32).reshape(len(chunk), -1, chunk.shape[-1]).mean(axis=1))
    return np.concatenate(parts)
