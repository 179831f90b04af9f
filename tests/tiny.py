"""A tiny workspace: two colours to tell apart, and settings that train in seconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

TINY = {
    "model": {
        "image_size_px": 32,
        "preprocessing": "rescale",
        "weights": "none",
        "width": 0.125,
        "head": "pooling",
        "builder": "sequential",
    },
    "validate": {"min_images_per_class": 2},
    "train": {
        "batch_size": 4,
        "phases": [
            # Fewer steps learn the two colours with some seeds only, and what learnt nothing is no champion.
            {"name": "all", "learning_rate": 0.002, "epochs": 8},
            {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.001, "epochs": 1},
        ],
    },
    "evaluate": {"batch_size": 8},
    "registry": {"name": "tiny", "experiment": "tiny"},
    "promotion": {"min_test_images": 10},
}
COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def write_params(folder: Path, **sections: dict[str, object]) -> None:
    """Writes `params.yaml` of a tiny workspace with some keys changed: `model={"head": "fc"}`."""
    content = {name: dict(section) for name, section in TINY.items()}
    for name, changed in sections.items():
        content[name] = content.get(name, {}) | changed
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def draw(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    """A noisy picture of one colour, 40×32 pixels; another seed gives another picture."""
    noise = np.random.default_rng(seed).integers(-40, 40, (32, 40, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def draw_data(folder: Path, train: int = 8, valid: int = 4, test: int = 6) -> Path:
    """Red and blue pictures as a data folder."""
    counts = {"train": train, "valid": valid, "test": test}
    for number, (split, count) in enumerate(counts.items()):
        for colour, (name, rgb) in enumerate(COLOURS.items()):
            for index in range(count):
                draw(folder / split / name / f"{index}.png", rgb, 10_000 * number + 1000 * colour + index)
    return folder
