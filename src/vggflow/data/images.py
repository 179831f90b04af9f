"""The one decoder: what the gate accepts is what training and prediction read."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB; Pillow itself warns from here on
MAX_BYTES = 512 * 1024**2
JPEG_EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
EXTENSIONS_OF = {
    "JPEG": JPEG_EXTENSIONS,
    "PNG": frozenset({".png", ".apng"}),
    "GIF": frozenset({".gif"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "WEBP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "AVIF": frozenset({".avif"}),
}
EXTENSIONS = frozenset().union(*EXTENSIONS_OF.values())

Resize = Literal["stretch", "crop", "pad"]
Pixels = NDArray[np.uint8]

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """The bytes are no image that can be decoded; the message says why in one line."""


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, and what it was in the file.

    `mode` is Pillow's name (`CMYK`, `I;16` …), `orientation` the EXIF value 1–8, `frames` at least 1.
    """

    image: Image.Image
    format: str
    mode: str
    orientation: int
    frames: int


def open_image(source: Path | bytes) -> Image.Image:
    """Decodes the first frame completely, upright, as RGB; transparent parts become white.

    Raises:
        ImageError: unreadable, damaged, of an unknown format, or of more than `MAX_PIXELS` pixels.
    """
    return decode(read(source) if isinstance(source, Path) else source).image


def load(path: Path, size_px: int, resize: Resize = "stretch") -> Pixels:
    """Reads a file as the pixels that the model takes: uint8, shape (size_px, size_px, 3)."""
    return pixels(open_image(path), size_px, resize)


def pixels(image: Image.Image, size_px: int, resize: Resize = "stretch") -> Pixels:
    """Resizes to a square of raw RGB, 0–255, uint8, shape (size_px, size_px, 3).

    `stretch` ignores the aspect ratio, `crop` keeps the middle, `pad` adds black bars.
    """
    square = (size_px, size_px)
    if resize == "crop":
        image = ImageOps.fit(image, square, Image.Resampling.BILINEAR)
    elif resize == "pad":
        image = ImageOps.pad(image, square, Image.Resampling.BILINEAR)
    else:
        image = image.resize(square, Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8)


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ImageError: it can't be read, or holds more than `MAX_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"larger than the limit of {MAX_BYTES // 1024**2} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error


def decode(content: bytes) -> Decoded:
    """Decodes the bytes of a file, and tells what they were; see `open_image`."""
    if not content:
        raise ImageError("the file is empty")
    try:
        # Damaged bytes make the decoders raise about a dozen kinds of exception, struct.error to MemoryError.
        with Image.open(io.BytesIO(content), formats=tuple(EXTENSIONS_OF)) as image:
            return _decode(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(error)) from error


def _decode(image: Image.Image) -> Decoded:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"more than the limit of {MAX_PIXELS} pixels")
    mode, orientation = image.mode, _orientation(image)
    image.load()
    upright = _rgb(image)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    # Counted last: looking for further frames moves an animation away from its first one.
    return Decoded(upright, cast(str, image.format), mode, orientation, _frames(image))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if getattr(image, "is_animated", False) else image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255, which turns nearly every such picture white."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            "pixels of more than 16 bits have no known range; save it with 8 or 16 bits a channel"
        )
    eight = np.empty(values.shape, np.uint8)
    np.floor_divide(values, 257, out=eight, casting="unsafe")
    return Image.fromarray(eight).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data must not cost a readable picture
        return 1
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # noqa: BLE001 - the first frame is whole, which is all that is used
        return 1


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the limit of {MAX_PIXELS} pixels"
    text = " ".join(str(error).split())
    if text.startswith("cannot identify image file"):
        return "not an image of a known format"
    return text or type(error).__name__
