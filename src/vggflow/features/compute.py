"""The feature pass: each image once through the frozen layers, into all stores that lack it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import Pixels
from vggflow.errors import WeightsError
from vggflow.features.batches import Examples, Shape, read_ahead
from vggflow.features.store import Store, Writer
from vggflow.models import cut as prefix

Report = Callable[[int, int], None]

PIXELS = "pixels"


@dataclass(frozen=True)
class Extraction:
    """A pass of images through the frozen layers of a model, in batches of one size."""

    model: keras.Model
    images: Examples
    shape: Shape
    batch_size: int
    xla: bool

    def fill(self, stores: Mapping[str, Store], missing: Mapping[str, Sequence[str]], report: Report) -> int:
        """Adds to each store, by cut, the images that it misses; returns how many images that took.

        Raises:
            WeightsError: the layers give something else than finite numbers.
        """
        wanted = {cut: set(images) for cut, images in missing.items() if images}
        union = set().union(*wanted.values())
        indices = [place for place, image in enumerate(self.images.hashes) if image in union]
        compute = self._compute([cut for cut in wanted if cut != PIXELS])
        pixels = read_ahead(self.images, indices, self.shape)
        with ExitStack() as stack:
            stack.enter_context(closing(pixels))
            writers = {
                cut: stack.enter_context(
                    Writer(stores[cut], missing[cut], stores[cut].rows_per_shard(self.batch_size))
                )
                for cut in wanted
            }
            for start in range(0, len(indices), self.batch_size):
                images = [self.images.hashes[index] for index in indices[start : start + self.batch_size]]
                features = compute(np.stack(list(islice(pixels, self.batch_size))))
                for cut, writer in writers.items():
                    for image, row in zip(images, features[cut], strict=True):
                        # A writer takes rows in the order in which they were missing: that of the images.
                        if image in wanted[cut]:
                            writer.add(row)
                report(start + len(images), len(indices))
        return len(indices)

    def _compute(self, cuts: list[str]) -> Callable[[Pixels], dict[str, NDArray[Any]]]:
        """Pixels to features by cut; always for a full batch, so that each image meets the same code."""
        if not cuts:
            return lambda pixels: {PIXELS: pixels}
        network = prefix.prefix(self.model, cuts)
        network.jit_compile = self.xla

        def compute(pixels: Pixels) -> dict[str, NDArray[Any]]:
            padding = np.repeat(pixels[-1:], self.batch_size - len(pixels), axis=0)
            outputs = keras.tree.flatten(network.predict_on_batch(np.concatenate([pixels, padding])))
            # Under several devices each computes the whole batch; the first one's rows come first.
            features = {cut: rows[: len(pixels)] for cut, rows in zip(cuts, outputs, strict=True)}
            if not all(np.isfinite(rows).all() for rows in features.values()):
                raise WeightsError(
                    "the frozen layers give numbers that are not finite: take other start weights, or set "
                    "train.precision to float32"
                )
            return features | {PIXELS: pixels}

        return compute
