"""A training small enough for a test: striped pictures of 32 pixels, a VGG16 with few channels."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from vggflow.settings import Settings, parse
from vggflow.training.job import VOLATILE, Row, SilentObserver

OTHERS = {"validate": {}, "evaluate": {}, "registry": {"experiment": "none"}}
HEAD = {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01, "epochs": 2}
TOP = {"name": "top", "freeze_through": "block3_conv3", "learning_rate": 0.001, "epochs": 2}


class Listener(SilentObserver):
    """Remembers all that it was told."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.resumed: tuple[str | None, int] | None = None
        self.steps_before: list[Row] = []
        self.epochs: list[Row] = []
        self.steps: list[Row] = []
        self.features: list[tuple[int, int]] = []
        self.ends: dict[str, Any] = {}

    def on_resume(self, run_id, rows, steps):
        self.run_id = run_id
        self.resumed = (run_id, len(rows))
        self.steps_before = list(steps)

    def on_start(self, facts):
        self.run_id = self.run_id or "run-1"

    def on_features(self, done, total):
        self.features.append((done, total))

    def on_step(self, done, total, row):
        self.steps.append(row)

    def on_epoch(self, row):
        self.epochs.append(row)

    def on_end(self, results):
        self.ends = dict(results)


def striped(generator: np.random.Generator, across: bool) -> np.ndarray:
    """A picture with noise and stripes in one of two directions."""
    wave = 60 * np.sin(np.arange(32) * generator.uniform(0.8, 1.2))
    stripes = wave[:, np.newaxis] if across else wave[np.newaxis, :]
    picture = 128 + stripes[..., np.newaxis] + generator.normal(0, 50, (32, 32, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw(folder: Path, split: str, counts: dict[str, int], seed: int) -> None:
    """Saves pictures of each class; every second class has its stripes across, the third is plain noise."""
    generator = np.random.default_rng(seed)
    for place, (name, count) in enumerate(counts.items()):
        target = folder / split / name
        target.mkdir(parents=True, exist_ok=True)
        start = len(list(target.iterdir()))
        for number in range(start, start + count):
            picture = striped(generator, across=place % 2 == 0)
            if place == 2:
                picture = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(picture).save(target / f"{number}.png")


def settings(train: dict[str, Any] | None = None, model: dict[str, Any] | None = None) -> Settings:
    """Settings for a tiny network, with the given keys replaced."""
    tiny = {
        "image_size_px": 32,
        "width": 0.0625,
        "head": "flatten",
        "weights": "none",
        "builder": "sequential",
    }
    backend = keras.backend.backend()
    learning = {
        "seed": 3,
        "batch_size": 8,
        "backend": backend,
        "features": {"batch_size": 8},
        "phases": [HEAD, TOP],
    }
    return parse({"model": tiny | (model or {}), "train": learning | (train or {}), **OTHERS})


def comparable(history: list[Row]) -> list[Row]:
    """A history without what differs between equal trainings."""
    return [{key: value for key, value in row.items() if key not in VOLATILE} for row in history]
