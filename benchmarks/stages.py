"""What waits for what in a training: each stage alone, and the whole beside it: `python -m benchmarks.stages [--json]`.

The feature pass is decoding, the network, fetching from the device, the digest and the disk; an epoch from features is
gathering rows, copying them to the device and the step. Photographs come from `$VGGFLOW_PHOTOS`. By default the network
costs next to nothing (a sixteenth of the width), so that all else shows. An aim that is missed ends with exit code 1;
with other options than the defaults, aims are not judged.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.training import Options, Row, row, show_all, take
from vggflow.models import start_keras

DEFAULTS = {
    "images": 1000,
    "size": 224,
    "width": 0.0625,
    "precision": "float32",
    "backend": "tensorflow",
    "batch_size": 32,
    "deterministic": True,
}
ROUNDS = 3
SHARE = 0.8


class Work:
    """A training of one top phase, set up, and its parts."""

    def __init__(self, data: Path, state: Path, given: argparse.Namespace) -> None:
        from vggflow.gate.scan import scan
        from vggflow.settings import parse
        from vggflow.training.job import TrainingJob

        phase = {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 1e-5, "epochs": 8}
        train: dict[str, Any] = {
            "precision": given.precision,
            "backend": given.backend,
            "deterministic": given.deterministic,
            "batch_size": given.batch_size,
            "phases": [phase],
        }
        model = {"image_size_px": given.size, "width": given.width, "weights": "none", "head": "pooling"}
        model["builder"] = "keras" if given.width == 1.0 else "sequential"
        others: dict[str, Any] = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}
        settings = parse({"model": model, "train": train, **others})
        self.job = TrainingJob(settings, scan(data), data, None, state)
        self.begin()
        self.images = self.setup.train
        self.batch = settings.train.features.batch_size
        plan = self.setup.plans[0]
        if plan.cut is None:
            raise SystemExit("nothing is frozen, so there is no pass to measure")
        self.plan, self.cut = plan, plan.cut

    def begin(self) -> None:
        """Sets the training up, as a new one would be; what is in the cache it finds."""
        from vggflow.training.preparation import set_up

        self.setup = set_up(self.job)
        # Kept whatever this machine would choose: it is what is measured.
        self.setup.inputs.kept = [self.setup.plans[0].cut or ""]

    def seconds(self, call: Callable[[], Any]) -> float:
        """The least of some rounds: what else goes on in a machine only adds."""
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        return min(times)


def measure(work: Work) -> Iterator[Row]:
    """All figures, in images a second."""
    from vggflow.models import cut as cuts
    from vggflow.training.precision import computing_in

    with computing_in(work.setup.model, work.setup.hardware.policy):
        network = cuts.prefix(work.setup.model, [work.cut])
        network.jit_compile = work.setup.hardware.xla
        yield from _pass(work, network)
    with computing_in(work.setup.model, work.setup.hardware.policy):
        yield from _epoch(work)


def _pass(work: Work, network: Any) -> Iterator[Row]:
    import keras
    import numpy as np

    from vggflow.features.decode import read_ahead
    from vggflow.training.precision import computing_in

    count, shape = len(work.images), work.setup.inputs.shape
    found: dict[str, float] = {}

    def decode() -> None:
        with closing(read_ahead(work.images, range(count), shape)) as pixels:
            for _ in pixels:
                pass

    found["decode"] = count / work.seconds(decode)
    with closing(read_ahead(work.images, range(work.batch), shape)) as first:
        pixels = np.stack(list(first))
    rows = network.predict_on_batch(pixels)
    repeats = max(1, count // work.batch)
    content = np.ascontiguousarray(rows).view(np.uint8).data
    on_device = keras.ops.convert_to_tensor(rows)

    def forward() -> None:
        for _ in range(repeats):
            network.predict_on_batch(pixels)

    def fetch() -> None:
        for _ in range(repeats):
            np.asarray(keras.ops.convert_to_numpy(on_device + 0))

    def digest() -> None:
        found_digest = hashlib.sha256()
        for _ in range(repeats):
            found_digest.update(content)

    def write() -> None:
        with tempfile.NamedTemporaryFile(dir=work.job.state_folder) as file:
            for number in range(repeats):
                file.write(content)
                if number % (256 // work.batch) == 256 // work.batch - 1:  # a shard, more or less
                    file.flush()
                    os.fsync(file.fileno())

    for name, stage in (("forward", forward), ("fetch", fetch), ("digest", digest), ("write", write)):
        found[name] = repeats * work.batch / work.seconds(stage)
    for name, speed in found.items():
        yield row(f"pass, {name} alone: images/s", speed, None, least=True)
    speeds = []
    for _ in range(ROUNDS):
        shutil.rmtree(work.job.state_folder / "features", ignore_errors=True)
        work.begin()
        with computing_in(work.setup.model, work.setup.hardware.policy):
            started = time.perf_counter()
            work.setup.inputs.of_phase(0, lambda _done, _total: None)
        speeds.append((count + len(work.setup.valid)) / (time.perf_counter() - started))
    speed = max(speeds)
    slowest = min(found, key=lambda name: found[name])
    yield row("feature pass: images/s", speed, None, least=True)
    yield row(
        f"feature pass: share of its slowest stage, {slowest}", speed / found[slowest], SHARE, least=True
    )
    # A processor decodes and computes with the same cores: then no pass can be faster than this.
    together = 1 / (1 / found["decode"] + 1 / found["forward"])
    yield row("feature pass: share of decode and forward in turns", speed / together, None, least=True)


class InMemory:
    """Rows that cost nothing to gather: the first ones, whichever are asked for."""

    def __init__(self, rows: Any, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: Any) -> Any:
        """As many rows as indices."""
        return self._rows[: len(indices)]


def _epoch(work: Work) -> Iterator[Row]:
    import keras
    import numpy as np

    from vggflow.training.learner import Data, Learner

    network, data = work.setup.learner_parts(0, lambda _done, _total: None)
    count, size = len(data.train), work.job.settings.train.batch_size
    order = np.random.default_rng(0).permutation(count)

    def gather() -> None:
        for start in range(0, count, size):
            data.train.gather(order[start : start + size])

    rows = data.train.gather(order[:size])

    def copy() -> None:
        for _ in range(0, count, size):
            _wait(keras.ops.convert_to_tensor(rows))

    found = {"gather": count / work.seconds(gather), "copy": count / work.seconds(copy)}

    def epochs(train: Any) -> list[float]:
        parts = Data(train, data.train_labels, data.valid, data.valid_labels, data.class_weights)
        learner = Learner(network, parts, work.job.settings.train, work.plan.phase, work.setup.hardware)
        rows_told = [learner.epoch(number + 1, number, lambda *_: None) for number in range(ROUNDS + 1)]
        return [float(told["images_per_second"]) for told in rows_told[1:]]  # the first one compiles

    found["step"] = max(epochs(InMemory(rows, count)))
    for name, speed in found.items():
        yield row(f"epoch, {name} alone: images/s", speed, None, least=True)
    measured = epochs(data.train)
    slower = min(("gather", "step"), key=lambda name: found[name])
    yield row("epoch from features: images/s", statistics.median(measured), None, least=True)
    yield row(
        f"epoch from features: share of the slower one, {slower}",
        max(measured) / found[slower],
        SHARE,
        least=True,
    )
    from benchmarks import training_ours as ours

    peak = ours.matrix_peak(keras.DTypePolicy(work.setup.hardware.policy).compute_dtype)
    share = statistics.median(measured) * ours.step_multiply_adds(network) / peak
    yield row("large matrix products: T multiply-adds a second", peak / 1e12, None, least=True)
    yield row("epoch from features: share of that", share, None, least=True)


def _wait(array: Any) -> None:
    if hasattr(array, "block_until_ready"):
        array.block_until_ready()


def main(arguments: list[str] | None = None) -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--size", type=int, help="pixels")
    parser.add_argument("--width", type=float, help="share of VGG16's filters")
    parser.add_argument("--precision", choices=["float32", "mixed"])
    parser.add_argument("--backend", choices=["tensorflow", "jax"])
    parser.add_argument("--batch-size", type=int, help="images in a step")
    parser.add_argument(
        "--any-order",
        dest="deterministic",
        action="store_false",
        help="without repeatability (train.deterministic: false)",
    )
    parser.set_defaults(**DEFAULTS)
    given = parser.parse_args(arguments)
    if given.photos is None:
        parser.error("no photographs: set VGGFLOW_PHOTOS or give --photos FOLDER with {train,valid}/<class>/")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start_keras.start(given.backend, deterministic=given.deterministic)
    judged = all(getattr(given, name) == value for name, value in DEFAULTS.items())
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            Path(given.photos),
            Path(folder),
            given.images,
            1,
            given.size,
            given.precision,
            (),
            shortened=False,
        )
        work = Work(take(options, given.images), Path(folder) / "state", given)
        return show_all(measure(work), judged=judged, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
