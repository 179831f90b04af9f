"""Anonymous memory of trainings on few and on many images: `python -m benchmarks.training_memory [--json]`.

Each training is a process of its own, looked at from outside (RssAnon of /proc, so Linux only): two phases of one
and two epochs from cached features, on 64×64 pixels with a quarter of the filters. Images are copies of photographs
from `$VGGFLOW_PHOTOS`, made different after their end. An aim that is missed ends with exit code 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training import Options, row, show, take

SECONDS_BETWEEN_LOOKS = 0.02
GROWTH = 1.10


def train(folder: Path) -> None:
    """Trains on what `prepare` left in the folder."""
    from vggflow.models import start_keras

    start_keras.start()
    from vggflow.data import manifest as manifests
    from vggflow.features.compute import PIXELS
    from vggflow.settings import parse
    from vggflow.training import short_training
    from vggflow.training.fitting import fit
    from vggflow.training.job import SilentObserver, TrainingJob

    phases = [
        {"name": "head", "freeze_through": "block5_pool", "epochs": 1},
        # Twice: features that are read once are not worth keeping, and many images would be trained in another way
        # than few, from pixels through the whole network.
        {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 1e-4, "epochs": 2},
    ]
    model = {"image_size_px": 64, "width": 0.25, "weights": "none", "builder": "sequential"}
    others: dict[str, Any] = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}
    settings = parse({"model": model, "train": {"phases": phases}, **others})
    manifest = manifests.read(folder / "manifest.parquet")
    # What is done once, whatever the number of images, is done for few as well: else its memory would look like growth.
    short_training.SHORT_SECONDS = 0.0
    trained = fit(TrainingJob(settings, manifest, folder / "data", None, folder / "state"), SilentObserver())
    kept = {name: trained.facts[f"features.{name}"] for name in ("head", "top")}
    if kept["top"] == "none" or PIXELS in kept.values():
        raise SystemExit(f"features were kept as {kept}: few and many images are compared from features only")


def prepare(photos: Path, folder: Path, images: int) -> None:
    """Copies images and lists them, which in earnest is the data gate's business."""
    from vggflow.data import manifest as manifests
    from vggflow.gate.scan import scan

    options = Options(photos, folder, images, 1, 64, "float32", (), shortened=False)
    take(options, images).rename(folder / "data")
    manifests.write(scan(folder / "data"), folder / "manifest.parquet")


def most_anonymous_mb(folder: Path) -> float:
    """The most that a training in the folder held while it ran."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.training_memory", "--train", str(folder)])
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        most = max([most, *(int(line.split()[1]) for line in status if line.startswith("RssAnon"))])
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(process.returncode)
    return most / 1024


def main() -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.training_memory", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--images", type=int, nargs=2, default=[1_000, 10_000], help="few and many")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.train:
        train(given.train)
        return 0
    if given.photos is None:
        parser.error("no photographs: set VGGFLOW_PHOTOS or give --photos FOLDER with {train,valid}/<class>/")
    measured = []
    for images in given.images:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(given.photos), Path(folder), images)
            measured.append(most_anonymous_mb(Path(folder)))
        show(row(f"{images} images: most RssAnon, MB", measured[-1], None, least=False), as_json=given.json)
    growth = row("many to few", measured[1] / measured[0], GROWTH, least=False)
    show(growth, as_json=given.json)
    return int(growth["met"] is False)


if __name__ == "__main__":
    sys.exit(main())
