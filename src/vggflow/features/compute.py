"""The feature pass: each image once through the frozen layers, into all stores that lack it.

Its stages overlap, so that the slowest one sets the pace: threads or processes decode, the network computes, a thread
fetches, and for each store one digests and one writes. Between them lie few batches, so memory is the same for any
number of images.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggflow.data.images import Pixels
from vggflow.errors import WeightsError
from vggflow.features.batches import Rows
from vggflow.features.decode import Images, Shape, read_ahead
from vggflow.features.store import Store, Writer, WritingThread
from vggflow.models import cut as prefix

Report = Callable[[int, int], None]

PIXELS = "pixels"
NOT_FINITE = (
    "the frozen layers give numbers that are not finite: take other start weights, or set "
    "train.precision to float32"
)
# Between decoding and writing: one that is computed, one that is fetched, one that waits for its writer.
BATCHES_UNDER_WAY = 3

Batches = Generator[tuple[list[str], dict[str, NDArray[Any]]]]


class Layers:
    """The frozen layers of a model up to some cuts, ready to compute.

    Args:
        model: Whose layers they are.
        cuts: After which layers; `pixels` for what the network is fed with.
        batch_size: How many images the network takes at once.
        xla: Whether the network is compiled by XLA.
    """

    def __init__(self, model: keras.Model, cuts: Sequence[str], batch_size: int, xla: bool) -> None:
        self.cuts, self.batch_size = list(cuts), batch_size
        self._computed = [cut for cut in cuts if cut != PIXELS]
        self._run = forward(model, self._computed, xla=xla) if self._computed else None

    def compute(self, pixels: Pixels) -> list[Any]:
        """What the layers give, on the device. Always for a full batch, so that each image meets the same code."""
        if self._run is None:
            return []
        missing = self.batch_size - len(pixels)
        return self._run(
            np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)]) if missing else pixels
        )

    def fetch(self, computed: Future[list[Any]], pixels: Pixels) -> dict[str, NDArray[Any]]:
        """The same in memory, by cut.

        Raises:
            WeightsError: the layers give something else than finite numbers.
        """
        # Under several devices each computes the whole batch; the first one's rows come first.
        features = {
            cut: np.asarray(rows)[: len(pixels)]
            for cut, rows in zip(self._computed, computed.result(), strict=True)
        }
        if not all(map(_are_finite, features.values())):
            raise WeightsError(NOT_FINITE)
        return features | {PIXELS: pixels}


class ComputedRows:
    """Features at one cut as rows that are computed from kept pixels when they are asked for, and stay on the device.

    The same numbers as those of a feature pass: by the same program, always on a full batch.
    """

    def __init__(self, layers: Layers, pixels: Rows) -> None:
        self._layers, self._pixels = layers, pixels
        # Compiled now: the precision of the layers may be another one by the time that rows are asked for.
        layers.compute(pixels.gather(np.zeros(1, np.int64)))

    def __len__(self) -> int:
        return len(self._pixels)

    def gather(self, indices: NDArray[np.int64]) -> Any:
        """The rows with these numbers, in this order, as an array of the backend.

        Raises:
            WeightsError: the layers give something else than finite numbers.
        """
        size = self._layers.batch_size
        parts = []
        for start in range(0, len(indices), size):
            pixels = self._pixels.gather(indices[start : start + size])
            (rows,) = self._layers.compute(pixels)
            parts.append(rows if len(pixels) == size else rows[: len(pixels)])
        rows = parts[0] if len(parts) == 1 else keras.ops.concatenate(parts)
        # One number to wait for, and the device has all of these rows before it.
        if not bool(keras.ops.all(keras.ops.isfinite(rows))):
            raise WeightsError(NOT_FINITE)
        return rows


@dataclass(frozen=True)
class Extraction:
    """A pass of images through frozen layers, in batches of one size.

    Attributes:
        images: What goes through, each content once.
        shape: What images are brought into.
        layers: What they go through.
        pixels: Those of all images, in their order, where they are kept: then no image is decoded.
    """

    images: Images
    shape: Shape
    layers: Layers
    pixels: Rows | None = None

    def batches(self, indices: Sequence[int]) -> Batches:
        """Images by their hashes, with their features by cut, in order; the device is some batches ahead."""
        waiting: deque[tuple[list[str], Future[dict[str, NDArray[Any]]]]] = deque()
        with (
            closing(self._pixels(indices)) as batches,
            # A thread for each of the two: a batch is fetched while the device computes the next one.
            ThreadPoolExecutor(1, thread_name_prefix="fetch") as fetching,
            ThreadPoolExecutor(1, thread_name_prefix="forward") as device,
        ):
            for chosen, batch in batches:
                computed = device.submit(self.layers.compute, batch)
                images = [self.images.hashes[index] for index in chosen]
                waiting.append((images, fetching.submit(self.layers.fetch, computed, batch)))
                if len(waiting) > BATCHES_UNDER_WAY:
                    done, fetched = waiting.popleft()
                    yield done, fetched.result()
            for done, fetched in waiting:
                yield done, fetched.result()

    def _pixels(self, indices: Sequence[int]) -> Generator[tuple[Sequence[int], Pixels]]:
        """Batches of images, by their indices, with their pixels (n, S, S, 3)."""
        size = self.layers.batch_size
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        if self.pixels is not None:
            for part in parts:
                yield part, self.pixels.gather(np.asarray(part))
            return
        with closing(read_ahead(self.images, indices, self.shape)) as decoded:
            for part in parts:
                yield part, np.stack(list(islice(decoded, len(part))))


def fill(
    stores: Mapping[str, Store],
    missing: Mapping[str, Sequence[str]],
    computed: Batches,
    multiple: int,
    report: Callable[[int], None],
) -> None:
    """Adds to each store, by cut, the images that it misses.

    Args:
        stores: Where features are kept.
        missing: The images that each lacks, in the order in which they are computed.
        computed: Images with their features, closed at the end.
        multiple: Shards hold a multiple of so many images.
        report: Called with the images of each batch.

    Raises:
        WeightsError: the layers give something else than finite numbers.
    """
    wanted = {cut: set(images) for cut, images in missing.items()}
    with ExitStack() as stack:
        stack.enter_context(closing(computed))
        writers = {}
        for cut, images in missing.items():
            writer = Writer(stores[cut], images, stores[cut].rows_per_shard(multiple))
            writers[cut] = stack.enter_context(WritingThread(stack.enter_context(writer)))
        for images, features in computed:
            for cut, thread in writers.items():
                # A writer takes rows in the order in which they were missing: that of the images.
                chosen = [place for place, image in enumerate(images) if image in wanted[cut]]
                thread.add(features[cut][chosen] if len(chosen) < len(images) else features[cut])
            report(len(images))


def forward(model: keras.Model, cuts: Sequence[str], *, xla: bool) -> Callable[[Pixels], list[Any]]:
    """A function from pixels (n, S, S, 3) to the features of each cut, as arrays of the backend.

    Under JAX it does not wait for the device; `np.asarray` of what it returns does.
    """
    network = prefix.prefix(model, list(cuts))
    if keras.backend.backend() != "jax":
        network.jit_compile = xla
        return lambda pixels: keras.tree.flatten(network.predict_on_batch(pixels))
    import jax

    # Not `predict_on_batch`, which waits, and gives the network's variables away for the time of a call.
    variables = [
        [variable.value for variable in some]
        for some in (network.trainable_variables, network.non_trainable_variables)
    ]

    def compute(variables: list[list[Any]], pixels: Any) -> list[Any]:
        return list(keras.tree.flatten(network.stateless_call(*variables, pixels, training=False)[0]))

    compiled = jax.jit(compute)
    return lambda pixels: compiled(variables, jax.device_put(pixels))


def _are_finite(rows: NDArray[Any]) -> bool:
    if rows.dtype != ml_dtypes.bfloat16:
        return bool(np.isfinite(rows).all())
    # By its bits, in a tenth of the time: infinity and NaN have all bits of the exponent.
    exponent = np.uint16(0x7F80)
    return not len(rows) or bool((rows.view(np.uint16) & np.uint16(0x7FFF)).max() < exponent)
