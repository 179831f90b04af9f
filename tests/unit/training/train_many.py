"""Trains on many images and says the most anonymous memory it took; takes a folder and a number."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tiny_training import HEAD, TOP, Listener, settings, striped

from vggflow.data import manifest as manifests
from vggflow.training.fitting import fit
from vggflow.training.job import TrainingJob

DIFFERENT = 100


class Watching(Listener):
    """Looks at the memory after every step and every batch of features."""

    most_kb = 0

    def on_features(self, done, total):
        self.look()

    def on_step(self, done, total, row):
        self.look()

    def look(self):
        status = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
        self.most_kb = max(self.most_kb, now)


def draw(folder: Path, split: str, count: int) -> None:
    """Copies of a few pictures, made different after the end of the image."""
    generator = np.random.default_rng(0)
    for name, across in (("across", True), ("down", False)):
        target = folder / split / name
        target.mkdir(parents=True)
        Image.fromarray(striped(generator, across)).resize((64, 64)).save(target / "0.png")
        content = (target / "0.png").read_bytes()
        for number in range(1, count // 2):
            (target / f"{number}.png").write_bytes(content + f"{split}{number}".encode())


folder, images = Path(sys.argv[1]), int(sys.argv[2])
chosen = settings(
    {"batch_size": 32, "features": {"batch_size": 32}, "phases": [HEAD | {"epochs": 1}, TOP | {"epochs": 1}]},
    {"width": 0.25, "image_size_px": 64},
)
listener = Watching()
# As in earnest, another process looks at the images.
if len(sys.argv) == 3:
    draw(folder / "data", "train", images)
    draw(folder / "data", "valid", images // 5)
    manifests.write(manifests.scan(folder / "data"), folder / "manifest.parquet")
    sys.exit(subprocess.run([sys.executable, *sys.argv, "train"], check=False).returncode)
manifest = manifests.read(folder / "manifest.parquet")
fit(TrainingJob(chosen, manifest, folder / "data", None, folder / "state"), listener)
sys.stdout.write(f"{listener.most_kb}\n")
