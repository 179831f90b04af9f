"""Pictures made up for the tests, with as much to see in them as photographs, and trees of them."""

import io
import struct
import zlib
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


def bomb(side: int) -> bytes:
    """A PNG of one colour, put together row by row so that making it needs no memory either."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\0" * (side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
