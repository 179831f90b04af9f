"""Computes what frozen layers give for the images of a data folder, as a training begins.

    python -m cluster_features DATA_FOLDER STATE_FOLDER BACKEND

It prints `begun` when the first features are there, and at the end a line of JSON: the digest of each file by name.
"""

import json
import sys
from pathlib import Path

from vggflow import files
from vggflow.errors import VggflowError
from vggflow.models import start_keras

MODEL = {"image_size_px": 64, "width": 0.125, "head": "flatten", "weights": "none", "builder": "sequential"}
PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01, "epochs": 1},
    {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.001, "epochs": 1},
]


def main() -> None:
    data, state, backend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    start_keras.start(backend)
    from vggflow.gate.scan import scan
    from vggflow.settings import parse
    from vggflow.training.job import TrainingJob
    from vggflow.training.preparation import set_up

    train = {"backend": backend, "seed": 3, "batch_size": 8, "features": {"batch_size": 8}, "phases": PHASES}
    others = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}
    setup = set_up(
        TrainingJob(parse({"model": MODEL, "train": train, **others}), scan(data), data, None, state)
    )

    def report(done: int, _total: int) -> None:
        if done <= 64:
            print("begun", done, flush=True)  # noqa: T201 (a program's own output)

    for number in range(len(setup.plans)):
        setup.inputs.of_phase(number, report)
    found = {
        path.relative_to(state).as_posix(): files.sha256(path)
        for path in sorted((state / "features").rglob("*"))
        if path.suffix in (".npy", ".json")
    }
    told = {"files": found, "images": setup.inputs.work.images}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except VggflowError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
