"""Trains in a process of its own, to be killed: `python train_in_a_process.py FOLDER PICTURES`.

Says `epoch N` after each epoch and, at the end, `model HASH HISTORY`. With KILL_WITHIN=features, best or
checkpoint it kills itself half-way through the second write of that kind.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from tiny_training import HEAD, TOP, Listener, comparable, settings

from vggflow.data import manifest as manifests
from vggflow.models import files
from vggflow.training.features import Writer
from vggflow.training.fitting import fit
from vggflow.training.job import TrainingJob

PHASES = [HEAD | {"epochs": 11}, TOP | {"epochs": 11, "schedule": "cosine"}]
SIGNS = {"best": "/.best-", "checkpoint": "/.checkpoint.npz"}


class Telling(Listener):
    """Says how far it is."""

    def on_epoch(self, row):
        print("epoch", row["epoch"], flush=True)  # noqa: T201


def append_then_die(writer: Writer, content: bytes) -> None:
    """Writes until the second shard has some rows."""
    Writer.original(writer, content)
    shards = len(list(writer._store.folder.glob("*.npy")))
    if shards and writer._file.tell() > 3 * len(content):
        writer._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def die_within(kind: str) -> None:
    """Cuts off the second file of this kind while it is written."""
    if kind == "features":
        Writer._append, append = append_then_die, Writer._append
        Writer.original = append
        return
    write_array, seen = np.lib.format.write_array, set()

    def write(file, array, **options):
        name = str(getattr(getattr(file, "_fileobj", None), "name", ""))
        if SIGNS[kind] in name:
            seen.add(name)
        if len(seen) == 2:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        write_array(file, array, **options)

    np.lib.format.write_array = write


def main(folder: Path, pictures: Path) -> None:
    job = TrainingJob(
        settings({"phases": PHASES}, {"dropout": 0.4}), manifests.scan(pictures), pictures, None, folder
    )
    trained = fit(job, Telling())
    files.save(trained.model, trained.info, folder / "model.keras")
    digest = hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()
    print("model", digest, json.dumps(comparable(trained.history)), flush=True)  # noqa: T201


if __name__ == "__main__":
    if kind := os.environ.get("KILL_WITHIN"):
        die_within(kind)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
