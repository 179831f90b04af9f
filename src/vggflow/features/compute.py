"""The feature pass: each image once through the frozen layers, into all stores that lack it.

Its stages overlap, so that the slowest one sets the pace: threads decode, the network computes, a thread for each store
digests and writes. Between them lie few batches, so memory is the same for any number of images.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import Pixels
from vggflow.errors import WeightsError
from vggflow.features.decode import Examples, Shape, read_ahead
from vggflow.features.store import Store, Writer, WritingThread
from vggflow.models import cut as prefix

Report = Callable[[int, int], None]

PIXELS = "pixels"


@dataclass(frozen=True)
class Extraction:
    """A pass of images through the frozen layers of a model, in batches of one size.

    Attributes:
        model: Whose layers are computed, up to the cuts.
        images: What goes through, each content once.
        shape: What images are brought into.
        batch_size: How many of them the network takes at once.
        xla: Whether the network is compiled by XLA.
    """

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
        done = 0
        with ExitStack() as stack:
            writers = {
                cut: stack.enter_context(
                    WritingThread(
                        stack.enter_context(
                            Writer(stores[cut], missing[cut], stores[cut].rows_per_shard(self.batch_size))
                        )
                    )
                )
                for cut in wanted
            }
            batches = stack.enter_context(closing(self._batches(indices, list(wanted))))
            for images, features in batches:
                for cut, writer in writers.items():
                    # A writer takes rows in the order in which they were missing: that of the images.
                    chosen = [place for place, image in enumerate(images) if image in wanted[cut]]
                    writer.add(features[cut][chosen] if len(chosen) < len(images) else features[cut])
                done += len(images)
                report(done, len(indices))
        return len(indices)

    def _batches(
        self, indices: Sequence[int], cuts: Sequence[str]
    ) -> Generator[tuple[list[str], dict[str, NDArray[Any]]]]:
        """Images by their hashes, with their features by cut, in order; the device is a batch ahead."""
        compute = self._compute([cut for cut in cuts if cut != PIXELS])
        waiting: deque[tuple[list[str], Future[dict[str, NDArray[Any]]]]] = deque()
        with (
            closing(read_ahead(self.images, indices, self.shape)) as pixels,
            # One thread: under JAX, Keras gives a network's variables away for the time of a call, and two calls at
            # once end in "buffer has been deleted or donated".
            ThreadPoolExecutor(1, thread_name_prefix="forward") as device,
        ):
            for start in range(0, len(indices), self.batch_size):
                images = [self.images.hashes[index] for index in indices[start : start + self.batch_size]]
                batch = np.stack(list(islice(pixels, self.batch_size)))
                waiting.append((images, device.submit(compute, batch)))
                if len(waiting) == 2:
                    done, computed = waiting.popleft()
                    yield done, computed.result()
            for done, computed in waiting:
                yield done, computed.result()

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
