"""Pictures made up for the tests, with as much to see in them as photographs, and trees of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A colourful landscape of smooth noise at several scales; another seed gives another picture."""
    chance = np.random.default_rng(seed)
    scene = np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24, 48):
        noise = chance.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        scene += np.asarray(layer, dtype=float) / cells**0.3
    scene = (scene - scene.min()) / (scene.max() - scene.min())
    return Image.fromarray((scene * 255).astype(np.uint8))


def encode(image: Image.Image, format_name: str = "JPEG", **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, format_name, **options)
    return written.getvalue()


def jpeg(seed: int, **options: object) -> bytes:
    return encode(picture(seed), "JPEG", **({"quality": 90} | options))


def grow(data: Path, per_class: int = 2, classes: tuple[str, ...] = ("cats", "dogs")) -> Path:
    """A data folder with all splits and a picture of its own in every place."""
    seed = 0
    for split in ("train", "valid", "test"):
        for name in classes:
            folder = data / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                (folder / f"{number}.jpg").write_bytes(jpeg(seed))
                seed += 1
    return data
