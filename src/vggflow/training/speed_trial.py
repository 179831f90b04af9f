"""What this machine needs for an image, part by part: tried for some seconds, then remembered.

Two decisions rest on it: whether features are worth keeping, and what is said beforehand of a training's time.
"""

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow import files
from vggflow.errors import DataError, VggflowError
from vggflow.features import store
from vggflow.features.batches import Batches
from vggflow.features.compute import PIXELS, forward
from vggflow.features.decode import Examples, Shape, read_ahead
from vggflow.features.store import Kind, Store, Writer
from vggflow.models import cut as prefix
from vggflow.models.network_summary import summarise
from vggflow.training import phases
from vggflow.training.phases import Plan

REMEMBERED = "speeds.json"
# Trainings of so many kinds; each takes half a kilobyte.
MOST_REMEMBERED = 100
# What is tried of each part: long enough that starting a call is little of it.
SECONDS = 0.25
TRIAL_BYTES = 32 * 2**20
# Steps on a device that are tried: so many take longer than to begin and to end an epoch does.
FEW_STEPS = 16
# Where so many at the beginning can't be decoded, there is nothing to say of the time.
MOST_UNREADABLE = 256


@dataclass(frozen=True)
class CutSpeed:
    """Seconds that the features of an image take; `reread` is a read of what is in memory already."""

    compute: float
    write: float
    read: float
    reread: float


@dataclass(frozen=True)
class PhaseSpeed:
    """Seconds that an image takes behind the cut: in a step of training, and where it is only measured.

    `start` are those until the first step, mostly of compiling; `epoch` those of an epoch without images.
    """

    step: float
    measure: float
    start: float
    epoch: float


@dataclass(frozen=True)
class Speeds:
    """Seconds an image: `decode` from its file to pixels, the rest by cut (`pixels` among them) and by phase."""

    decode: float
    cuts: dict[str, CutSpeed]
    phases: dict[str, PhaseSpeed]


@dataclass(frozen=True)
class Trial:
    """What is tried: a network in its phases, some images, and a folder on the disk that features go to.

    Args:
        kinds: By cut, in what form its features are kept, `pixels` among them.
        accelerated: Whether something else than the processor computes.
        machine: All that is known of what computes: on another machine the speeds are others.
    """

    model: keras.Model
    plans: Sequence[Plan]
    images: Examples
    shape: Shape
    kinds: dict[str, Kind]
    batch_size: int
    machine: str
    state_folder: Path
    xla: bool
    devices: int
    accelerated: bool

    def speeds(self) -> Speeds:
        """What was measured here before, else what a trial shows.

        Raises:
            DataError: an image that is tried changed since the manifest was made.
        """
        path = self.state_folder / store.FOLDER / REMEMBERED
        remembered = _read(path)
        key = self._key()
        with suppress(KeyError, TypeError):  # not tried yet, or written by another version
            return _from_json(remembered[key])
        found = self._measure()
        newest = list(remembered.items())[-(MOST_REMEMBERED - 1) :]
        # Where it can't be kept, or the disk was full, the next training tries again.
        with suppress(OSError, VggflowError, ValueError):
            files.write_json(path, dict(newest) | {key: asdict(found)})
        return found

    def _key(self) -> str:
        """Weights and images decide about results, not about time."""
        layers = [
            [layer.name, type(layer).__name__, list(map(str, layer.output.shape))]
            for layer in self.model.layers
        ]
        parts = {
            "layers": layers,
            "phases": [
                [plan.phase.name, plan.phase.optimizer, plan.learning, plan.cut] for plan in self.plans
            ],
            "kept as": {cut: [kind.shape, kind.dtype] for cut, kind in self.kinds.items()},
            "batch": self.batch_size,
            "shape": asdict(self.shape),
            "machine": self.machine,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def _measure(self) -> Speeds:
        computing = self._computing()
        cuts = {cut: CutSpeed(computing.get(cut, 0.0), *self._disk(kind)) for cut, kind in self.kinds.items()}
        learning = {layer.name: layer.trainable for layer in self.model.layers}
        try:
            behind = {plan.phase.name: self._phase(plan) for plan in self.plans}
        finally:
            phases.freeze(self.model, [name for name, learns in learning.items() if learns])
        return Speeds(self._decode(), cuts, behind)

    def _decode(self) -> float:
        """In as many threads or processes as a training decodes in, once they are at work."""
        for first in range(len(self.images)):
            try:
                return self._decode_from(first)
            except DataError:
                # Before the gate has looked there may be damaged pictures: they are not what takes the time.
                if first + 1 >= min(len(self.images), MOST_UNREADABLE):
                    raise
        return 0.0  # no images: the training itself says so

    def _decode_from(self, first: int) -> float:
        count, started = 0, time.perf_counter()
        with closing(read_ahead(self.images, range(first, len(self.images)), self.shape)) as pixels:
            next(pixels)
            started = time.perf_counter()
            # One that fails later does not spoil what was measured.
            with suppress(DataError):
                while time.perf_counter() - started < SECONDS and list(islice(pixels, 1)):
                    count += 1
        return (time.perf_counter() - started) / max(1, count)

    def _computing(self) -> dict[str, float]:
        """Seconds until an image's features are computed, by cut; they need not be fetched for that."""
        layers = {layer.name for layer in self.model.layers}
        cuts = [cut for cut in self.kinds if cut in layers]
        pixels = np.zeros((self.batch_size, self.shape.size_px, self.shape.size_px, 3), np.uint8)
        if not self.accelerated or not cuts:
            return {cut: self._timed(self._forward([cut]), pixels) for cut in cuts}
        # All in one program, which takes seconds to compile and is the one of the feature pass; what each takes of it
        # goes by its multiply-adds.
        seconds = self._timed(self._forward(cuts), pixels)
        costs = {cut: summarise(prefix.prefix(self.model, [cut])).multiply_adds for cut in cuts}
        most = max(1, *costs.values())
        return {cut: seconds * cost / most for cut, cost in costs.items()}

    def _forward(self, cuts: list[str]) -> Callable[[NDArray[Any]], Any]:
        network = forward(self.model, cuts, xla=self.xla)
        return lambda pixels: _wait(network(pixels))

    def _disk(self, kind: Kind) -> tuple[float, float, float]:
        try:
            return _disk(self.state_folder / store.FOLDER, kind)
        except (OSError, VggflowError):  # full: then nothing will be kept there either
            return (math.inf, math.inf, math.inf)

    def _phase(self, plan: Plan) -> PhaseSpeed:
        """On a copy with other weights: a step changes them."""
        phases.freeze(self.model, plan.learning)
        network = keras.models.clone_model(prefix.suffix(self.model, plan.cut))
        units = int(network.outputs[0].shape[-1])
        loss = "binary_crossentropy" if units == 1 else "categorical_crossentropy"
        network.compile(phases.optimizer(plan.phase, 0.0), loss, jit_compile=self.xla)
        if self.accelerated:
            return self._phase_on_device(plan, network)
        inputs = np.zeros((self.batch_size, *network.inputs[0].shape[1:]), np.float32)
        targets = _targets(units, self.batch_size)

        few = self.devices

        def once() -> None:
            network.fit(inputs[:few], targets[:few], epochs=1, verbose=0)
            network.predict(inputs[:few], verbose=0)

        start, again = _seconds(once), _seconds(once)
        step = self._timed(lambda rows: network.train_on_batch(rows, targets[: len(rows)]), inputs)
        measure = self._timed(network.predict_on_batch, inputs)
        return PhaseSpeed(step, measure, start, max(0.0, again - few * (step + measure)))

    def _phase_on_device(self, plan: Plan, network: keras.Model) -> PhaseSpeed:
        """Each program is compiled once, which takes seconds: whole batches, few and many in the same way."""
        size = self.batch_size
        # There already, as the rows of a training are where there is room for them.
        rows = keras.ops.zeros((size, *network.inputs[0].shape[1:]), self.kinds[plan.cut or PIXELS].dtype)
        targets = _targets(int(network.outputs[0].shape[-1]), size)

        def learn(steps: int) -> None:
            batches = Batches(_Same(rows, steps * size), size, targets=lambda _: targets)
            network.fit(batches.for_keras(), epochs=1, verbose=0, shuffle=False)

        def answer(steps: int) -> None:
            network.predict(Batches(_Same(rows, steps * size), size).for_keras(), verbose=0)

        start = sum(_seconds(partial(call, 1)) for call in (learn, answer))
        found = []
        for call in (learn, answer):
            # The less of two: what else goes on in a machine only adds.
            one, few = (min(_seconds(partial(call, steps)) for _ in range(2)) for steps in (1, FEW_STEPS))
            each = max(0.0, few - one) / (FEW_STEPS - 1)
            found.append((each / size, max(0.0, one - each)))
        (step, learning), (measure, measuring) = found
        return PhaseSpeed(step, measure, start, learning + measuring)

    def _timed(self, call: Callable[[NDArray[Any]], Any], rows: NDArray[Any]) -> float:
        """Seconds a row, of as many at a time as fit into the time for a trial."""
        if self.accelerated:
            more = len(rows)
        else:
            count = min(2, len(rows))
            call(rows[:count])  # compiles
            took = _seconds(lambda: call(rows[:count]))
            more = min(len(rows), int(count * SECONDS / max(took, 1e-9)))
            if more < 2 * count:
                return took / count
        call(rows[:more])  # another number of rows may be compiled anew
        times = [_seconds(lambda: call(rows[:more])) for _ in range(3)]
        return min(times) / more


class _Same:
    """The same rows for each batch: they cost nothing to gather."""

    def __init__(self, rows: Any, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: NDArray[np.int64]) -> Any:  # noqa: ARG002
        """All of them, whichever are asked for."""
        return self._rows


def _targets(units: int, count: int) -> NDArray[np.float32]:
    return np.eye(max(2, units), dtype=np.float32)[np.zeros(count, np.int64)][:, :units]


def _wait(outputs: list[Any]) -> None:
    """Until the device has computed them; what they are need not be fetched for that."""
    for output in outputs:
        if hasattr(output, "block_until_ready"):
            output.block_until_ready()


def _disk(features: Path, kind: Kind) -> tuple[float, float, float]:
    """Seconds an image to write, to read from disk, and to read once more, in the way of a training."""
    count = int(min(store.MOST_ROWS_WRITTEN, max(8, TRIAL_BYTES // kind.row_bytes)))
    rows = np.ones((count, *kind.shape), kind.numbers)
    names = [str(number) for number in range(count)]
    features.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=features, prefix=store.TRIAL) as folder:
        tried = Store(Path(folder), kind)

        def write_all() -> None:
            # The end of the block waits for the disk.
            with Writer(tried, names, count) as writer:
                writer.add(rows)

        write = _seconds(write_all)
        tried.missing(names)
        _forget_pages(tried.folder)
        stored = tried.rows(names)
        order = np.random.default_rng(0).permutation(count)
        read = _seconds(lambda: stored.gather(order))
        reread = _seconds(lambda: stored.gather(order))
    return write / count, read / count, reread / count


def _forget_pages(folder: Path) -> None:
    """Lets the system forget what it holds of these files in memory, so that reading them is reading the disk."""
    if not hasattr(os, "posix_fadvise"):  # macOS: the first read counts as one from memory
        return
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):  # not there yet, or damaged: tried again
        found = files.read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def _from_json(found: dict[str, Any]) -> Speeds:
    return Speeds(
        float(found["decode"]),
        {cut: CutSpeed(**speed) for cut, speed in found["cuts"].items()},
        {name: PhaseSpeed(**speed) for name, speed in found["phases"].items()},
    )
