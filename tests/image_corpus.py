"""A corpus of image files, made here: every format that is accepted, in its modes, and damage at seeded places."""

import io
import random
from collections.abc import Callable, Iterator

import numpy as np
from made_pictures import encode, picture
from PIL import Image

from vggflow.data.images import ImageError, decode

PICTURE = picture(1, 96, 72)


def deep(image: Image.Image, factor: int = 257) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * factor)


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: encode(image, "JPEG", quality=95),
    "jpeg grey": lambda image: encode(image.convert("L"), "JPEG", quality=95),
    "jpeg cmyk": lambda image: encode(image.convert("CMYK"), "JPEG", quality=95),
    "jpeg 4:4:4": lambda image: encode(image, "JPEG", quality=95, subsampling=0),
    "jpeg progressive": lambda image: encode(image, "JPEG", quality=95, progressive=True),
    "jpeg restarts": lambda image: encode(image, "JPEG", quality=95, restart_marker_rows=1),
    "png": lambda image: encode(image, "PNG"),
    "png grey": lambda image: encode(image.convert("L"), "PNG"),
    "png alpha": lambda image: encode(image.convert("RGBA"), "PNG"),
    "png palette": lambda image: encode(image.quantize(64), "PNG"),
    "png 1 bit": lambda image: encode(image.convert("1"), "PNG"),
    "png 16 bits": lambda image: encode(deep(image), "PNG"),
    "gif": lambda image: encode(image, "GIF"),
    "bmp": lambda image: encode(image, "BMP"),
    "bmp grey": lambda image: encode(image.convert("L"), "BMP"),
    "webp": lambda image: encode(image, "WEBP", quality=95),
    "webp lossless": lambda image: encode(image, "WEBP", lossless=True),
    "tiff": lambda image: encode(image, "TIFF"),
    "tiff lzw": lambda image: encode(image, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda image: encode(image, "TIFF", compression="tiff_adobe_deflate"),
    "tiff 16 bits": lambda image: encode(deep(image), "TIFF"),
    "avif": lambda image: encode(image, "AVIF", quality=95),
}


def judged(content: bytes) -> str:
    """The class that the gate gives a file: accepted, noted, warned or refused."""
    try:
        decoded = decode(content)
    except ImageError:
        return "refused"
    if decoded.doubt:
        return "warned"
    return "noted" if decoded.oddity else "accepted"


def is_decoded(content: bytes) -> bool:
    """Whether Pillow by itself comes to its end, whatever else the gate looks at."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - damaged bytes raise about a dozen kinds
        return False
    return True


def data_of(kind: str, content: bytes) -> range:
    """Where the compressed pixels lie; of a progressive JPEG those of its last scan."""
    if kind.startswith("jpeg"):
        return range(content.rindex(b"\xff\xda") + 14, len(content) - 2)
    if kind.startswith("png"):
        return range(content.index(b"IDAT") + 4, len(content) - 16)
    if kind.startswith("tiff"):
        with Image.open(io.BytesIO(content)) as image:
            start, length = image.tag_v2[273][0], image.tag_v2[279][0]
        return range(start, start + length)
    if kind == "avif":
        return range(content.index(b"mdat") + 4, len(content))
    start = {"gif": len(content) // 3, "bmp": 54 + 1024 * (kind == "bmp grey")}.get(kind.split()[0], 30)
    return range(start, len(content) - 2)


def _cut(content: bytes, data: range) -> Iterator[bytes]:
    for share in (0.1, 0.3, 0.5, 0.6, 0.9):
        yield content[: data.start + int(len(data) * share)]


def _end_lost(content: bytes, data: range) -> Iterator[bytes]:
    yield content[:-1]


def _bit_flipped(content: bytes, data: range) -> Iterator[bytes]:
    for seed in range(120):
        chance, changed = random.Random(seed), bytearray(content)
        changed[chance.choice(data)] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def _zeros(content: bytes, data: range) -> Iterator[bytes]:
    for seed in range(40):
        place = random.Random(seed).choice(data[:-32])
        yield content[:place] + bytes(32) + content[place + 32 :]


def _piece_lost(content: bytes, data: range) -> Iterator[bytes]:
    for seed in range(40):
        place = random.Random(seed).choice(data[:-64])
        yield content[:place] + content[place + 64 :]


DAMAGE: dict[str, Callable[[bytes, range], Iterator[bytes]]] = {
    "cut off in the pixels": _cut,
    "the last byte lost": _end_lost,
    "a bit flipped": _bit_flipped,
    "32 bytes made zero": _zeros,
    "64 bytes lost": _piece_lost,
}


def damaged(kind: str, damage: str) -> Iterator[bytes]:
    """The damaged files of a cell, the same ones every time."""
    content = KINDS[kind](PICTURE)
    return DAMAGE[damage](content, data_of(kind, content))
