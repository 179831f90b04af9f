"""Where a training was, written after every epoch: killed and started again, it ends as if nothing had been.

A checkpoint lies in a folder named by all that the result depends on: one of other inputs is never found.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vggflow import console
from vggflow.errors import VggflowError
from vggflow.features import array_files
from vggflow.features.array_files import Arrays
from vggflow.processes.locks import exclusive, if_free
from vggflow.training.job import STEP_VALUES, Row

CHECKPOINT = "checkpoint.npz"
PROGRESS, STEPS = "progress", "steps"
DAYS_TO_KEEP = 14
DAYS_UNTIL_ABANDONED = 1 / 24  # an hour: no file takes longer to write
LOCKS = "locks"
# What is put aside keeps its name with this after it, until the training's folder goes.
DAMAGED = ".damaged"


@dataclass
class Progress:
    """How far a training is: the phase (its number), the epochs done in it, and the best of them.

    `best_epoch` counts over all phases and names the file of the best weights; `stale` counts epochs since.
    `rows` are the epochs done and `steps` their steps, a row of `STEP_VALUES` each: whoever tracks the training may
    have been killed before it could pass them on. `results` are those found so far, as of the linear probe.
    `kept` are the features for which there was room when the training began, and `computed` those that each start
    computes once from kept pixels: it goes on with the same ones.
    `training` names this training and no other of the same inputs, before there is a run.
    """

    training: str = ""
    kept: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    run_id: str | None = None
    phase: int = 0
    epoch: int = 0
    stale: int = 0
    best: float | None = None
    best_epoch: int = 0
    rows: list[Row] = field(default_factory=list)
    results: dict[str, float] = field(default_factory=dict)
    steps: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, len(STEP_VALUES))), compare=False)

    def add(self, row: Row, steps: Sequence[Row]) -> None:
        """Counts an epoch with its steps, not the best one unless `mark_best` follows."""
        self.rows.append(row)
        values = [[float(step[name]) for name in STEP_VALUES] for step in steps]
        # Reshaped, since an epoch may have no steps to tell.
        self.steps = np.concatenate([self.steps, np.reshape(values, (-1, len(STEP_VALUES)))])
        self.epoch += 1
        self.stale += 1

    def mark_best(self, value: float) -> None:
        """Says that the epoch just added is the best of its phase, and by which value."""
        self.best, self.best_epoch, self.stale = value, len(self.rows), 0

    def step_rows(self) -> list[Row]:
        """The steps done, counted from 1, with their values."""
        values = (dict(zip(STEP_VALUES, step, strict=True)) for step in self.steps.tolist())
        return [{"step": number, **step} for number, step in enumerate(values, start=1)]

    def next_phase(self) -> None:
        """Moves to the start of the phase after this one."""
        self.phase += 1
        self.epoch = self.stale = self.best_epoch = 0
        self.best = None


def key(parts: Mapping[str, Any]) -> str:
    """The name for a set of inputs: equal parts, and only those, give an equal name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def digest(model: keras.Model) -> str:
    """What the network is and holds, in one hash: its layers, how they are joined, and all its numbers."""
    # Through JSON for its hook, which meets every object however deep.
    layers = json.loads(json.dumps(model.get_config()), object_hook=_without_circumstances)
    content = hashlib.sha256(json.dumps(layers, sort_keys=True).encode())
    for variable in model.variables:
        content.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return content.hexdigest()


def _without_circumstances(config: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between equal networks: which phase it is, and memory addresses."""
    return {name: value for name, value in config.items() if name not in ("trainable", "shared_object_id")}


class Checkpoints:
    """The checkpoint of one training, and the best weights of its present phase."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def held(self) -> AbstractContextManager[None]:
        """Within the block, another training of the same inputs waits: both would write the same files."""
        return exclusive(_lock(self.folder), f"the same training: its checkpoint is {self.folder}")

    def save(self, progress: Progress, arrays: Arrays) -> None:
        """Replaces the checkpoint, atomically."""
        array_files.write(self.folder / CHECKPOINT, together(progress, arrays))
        # After the checkpoint is replaced: until then it names the weights that go here.
        for path in self.folder.glob("best-*.npz"):
            if path != self._best(progress):
                path.unlink(missing_ok=True)

    def load(self) -> tuple[Progress, Arrays] | None:
        """The checkpoint, if there is a whole one with the best weights that it names.

        One that can't be used, whatever the reason, is put aside and said in one line: that costs epochs, no result.
        """
        try:
            return self._load()
        except array_files.Damaged as error:
            self._put_aside()
            console.tell(
                f"the checkpoint in {self.folder} can't be used ({error}): put aside as *{DAMAGED}, "
                "the training starts afresh"
            )
            return None

    def _load(self) -> tuple[Progress, Arrays] | None:
        arrays = array_files.read(self.folder / CHECKPOINT)
        if arrays is None:
            return None
        with array_files.explaining_damage(self.folder / CHECKPOINT):
            progress, arrays = apart(arrays)
        best = array_files.read(self._best(progress)) if progress.best_epoch else {}
        if best is None:
            raise array_files.Damaged(f"{self._best(progress).name} is gone")
        _refuse_not_finite(arrays)
        _refuse_not_finite(best)
        return progress, arrays

    def _put_aside(self) -> None:
        try:
            # The checkpoint first: best weights that none names are never read.
            for path in [self.folder / CHECKPOINT, *self.folder.glob("best-*.npz")]:
                # Of a broken link `exists` says no, and it would stay in the way.
                if os.path.lexists(path):
                    path.replace(path.with_name(path.name + DAMAGED))
        except OSError as error:
            raise VggflowError(
                f"{error.filename} is damaged and can't be put aside ({error.strerror}): remove {self.folder}"
            ) from error

    def begin(self, progress: Progress) -> Progress:
        """What the training begins with where there is no checkpoint; several processes agree on it here."""
        return progress

    def save_best(self, progress: Progress, arrays: Arrays) -> None:
        """Keeps the weights of the epoch `progress.best_epoch`; before the checkpoint that names them."""
        array_files.write(self._best(progress), arrays)

    def load_best(self, progress: Progress) -> Arrays:
        """The weights that `save_best` kept.

        Raises:
            VggflowError: they are damaged or gone.
        """
        return _present(self._best(progress))

    def load_arrays(self) -> Arrays:
        """The numbers that `save` kept last.

        Raises:
            VggflowError: they are damaged or gone.
        """
        return _present(self.folder / CHECKPOINT)

    def discard(self) -> None:
        """Removes everything: the training's result is written elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _best(self, progress: Progress) -> Path:
        return self.folder / f"best-{progress.best_epoch}.npz"


def together(progress: Progress, arrays: Arrays) -> Arrays:
    """All that a checkpoint holds, as arrays."""
    text = json.dumps({name: value for name, value in vars(progress).items() if name != STEPS}).encode()
    return {**arrays, PROGRESS: np.frombuffer(text, np.uint8), STEPS: progress.steps}


def apart(held: Arrays) -> tuple[Progress, Arrays]:
    """What `together` was given."""
    arrays = dict(held)
    told = json.loads(arrays.pop(PROGRESS).tobytes())
    return Progress(**told, steps=arrays.pop(STEPS)), arrays


def _present(path: Path) -> Arrays:
    with suppress(array_files.Damaged):
        if (arrays := array_files.read(path)) is not None:
            return arrays
    raise VggflowError(f"{path} is damaged or gone: run the same command again, the training starts afresh")


def _refuse_not_finite(arrays: Arrays) -> None:
    """Such numbers can only come from a version of vggflow, or a device, that let them pass."""
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise array_files.Damaged(f"{name} holds numbers that are not finite")


def _lock(folder: Path) -> Path:
    return folder.parents[1] / LOCKS / f"training-{folder.name}.lock"


def prune(folder: Path, days: float = DAYS_TO_KEEP) -> None:
    """Removes checkpoints below `folder` that nobody went on from for `days`, and what killed ones left.

    What a training holds stays, whatever its age: its last epoch may have been long ago.
    """
    locks = (folder.parent / LOCKS).glob("training-*.lock")
    # Locks whose folder is gone go too.
    held = {folder / lock.stem.removeprefix("training-") for lock in locks}
    for checkpoint in sorted({*held, *(path for path in folder.glob("*") if path.is_dir())}):
        with if_free(_lock(checkpoint)) as free:
            if free:
                _prune(checkpoint, days)


def _prune(checkpoint: Path, days: float) -> None:
    """Removes an old checkpoint with its lock, which is held now, or the halves of files in a newer one."""
    for half in checkpoint.glob(".*"):
        if _age_days(half) > DAYS_UNTIL_ABANDONED:
            half.unlink(missing_ok=True)
    # Of an empty folder this is true as well: it goes.
    if all(_age_days(path) > days for path in checkpoint.glob("*")):
        shutil.rmtree(checkpoint, ignore_errors=True)
    if not checkpoint.exists():
        _lock(checkpoint).unlink(missing_ok=True)


def _age_days(path: Path) -> float:
    """0 for what another training removed meanwhile."""
    with suppress(FileNotFoundError):
        return (time.time() - path.stat().st_mtime) / 86400
    return 0.0


def state(layers: Iterable[keras.layers.Layer]) -> Arrays:
    """All numbers of the layers, weights and random state, by layer and place."""
    return {
        f"layer/{layer.name}/{place}": keras.ops.convert_to_numpy(variable)
        for layer in layers
        for place, variable in enumerate(layer.variables)
    }


def optimizer_state(optimizer: keras.optimizers.Optimizer) -> Arrays:
    """All numbers of the optimizer, its count of steps among them."""
    variables = enumerate(optimizer.variables)
    return {f"optimizer/{place}": keras.ops.convert_to_numpy(variable) for place, variable in variables}


def restore(layers: Iterable[keras.layers.Layer], arrays: Arrays) -> None:
    """Puts back what `state` gave, for those of the layers that it held."""
    for layer in layers:
        for place, variable in enumerate(layer.variables):
            if (name := f"layer/{layer.name}/{place}") in arrays:
                variable.assign(arrays[name])


def restore_optimizer(optimizer: keras.optimizers.Optimizer, arrays: Arrays) -> None:
    """Puts back what `optimizer_state` gave; the optimizer must be built."""
    for place, variable in enumerate(optimizer.variables):
        variable.assign(arrays[f"optimizer/{place}"])
