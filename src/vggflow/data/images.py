"""The one decoder: what the gate accepts is what training and prediction read."""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vggflow.data import colours
from vggflow.data.colours import to_rgb
from vggflow.data.places import Place
from vggflow.formats import check_file, jpeg, png, unfilled_lines
from vggflow.formats.file_state import NOTHING, FileState

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
# Cached features are named by this code too, so that a change in it has them computed again.
_DECIDING = (colours, check_file, unfilled_lines, jpeg, png)
_FORMATS = tuple(EXTENSIONS_OF)
EXTENSIONS = frozenset().union(*EXTENSIONS_OF.values())

Resize = Literal["stretch", "crop", "pad"]
Pixels = NDArray[np.uint8]

_ORIENTATION_TAG = 0x0112
_UNKNOWN = "not an image of a known format"
_CHANGED = "its data can't be decoded: bytes were changed or lost"
# Pillow's words where it knows no more; what the file's structure shows says more.
_VAGUE = {
    _UNKNOWN,
    _CHANGED,
    "broken data stream when reading image file",
    "unrecognized data stream contents when reading image file",
}
# Constants, bytes, calls, attributes, names with underscores: what speaks of code and not of a file.
_CODE = re.compile(
    r"[A-Z]{3,}_[A-Z]|b'|\w\.\w+\(|[A-Z]\w+\.[A-Z_]{3,}|[a-z]_[a-z]|\(\)|object|unpack|decoder error"
)
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
    `used_bits` is how many of 16 bits the largest value needs, null for files of other depths. `doubt` is why
    pixels may be lost or wrong, `oddity` what is wrong with the rest of the file; null where nothing is.
    """

    image: Image.Image
    format: str
    mode: str
    orientation: int
    frames: int
    used_bits: int | None = None
    doubt: str | None = None
    oddity: str | None = None


def code_digest() -> str:
    """The SHA-256 of the code that decides which pixels a file has, in hexadecimal."""
    digest = hashlib.sha256()
    for file in (__file__, *(str(each.__file__) for each in _DECIDING)):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def open_image(source: Path | Place | bytes) -> Image.Image:
    """Decodes the first frame completely, upright, as RGB; transparent parts become white.

    Raises:
        ImageError: unreadable, damaged, of an unknown format, or of more than `MAX_PIXELS` pixels.
    """
    return decode(source if isinstance(source, bytes) else read(source)).image


def load(path: Path | Place, size_px: int, resize: Resize = "stretch") -> Pixels:
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
        # Pillow takes every pixel into account when it shrinks, as `tf.image.resize` does not.
        image = image.resize(square, Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8)  # a copy, as `asarray` gives what can't be written to


def read(path: Path | Place) -> bytes:
    """The bytes of an image's file, or of a member of a shard.

    Raises:
        ImageError: it can't be read, or holds more than `MAX_BYTES`.
    """
    place = path if isinstance(path, Place) else Place(str(path))
    try:
        # Asked first: all of it is kept in memory while it is looked at.
        if place.size_bytes() > MAX_BYTES:
            raise ImageError(f"larger than the limit of {MAX_BYTES // 1024**2} MiB")
        return place.read()
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from error


def decode(content: bytes) -> Decoded:
    """Decodes the bytes of a file, and tells what they were; see `open_image`."""
    if not content:
        raise ImageError("the file is empty")
    state = check_file.check(content)
    try:
        decoded = _decode(content, state)
    except ImageError as error:
        if state.damage and str(error) in _VAGUE:
            raise ImageError(state.damage) from error
        # Pixels decide: where only metadata are in the way, they are left out.
        plain = check_file.without_metadata(content)
        if plain is None:
            raise
        try:
            decoded = _decode(plain.content, check_file.check(plain.content))
        except ImageError:
            raise error from None
        told = f"metadata that can't be read: {', '.join(plain.left_out)}"
        decoded = replace(decoded, doubt=decoded.doubt or state.doubt, oddity=state.oddity or told)
    # A decoder that came to its end has looked at no checksum of pixels.
    if state.damage:
        raise ImageError(state.damage)
    return decoded


def _decode(content: bytes, state: FileState) -> Decoded:
    try:
        file = unfilled_lines.JpegFile(content, state.last_pixel_byte)
        # Damaged bytes make the decoders raise about a dozen kinds of exception, struct.error to MemoryError.
        with Image.open(file, formats=_FORMATS) as image:
            return _decode_open(image, file, content, state)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(error)) from error


def _decode_open(
    image: Image.Image, file: unfilled_lines.JpegFile, content: bytes, state: FileState
) -> Decoded:
    # The header tells the size, so a bomb is refused before it takes memory.
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"more than the limit of {MAX_PIXELS} pixels")
    # Asked before `load`, which empties the list of tiles.
    mode, raw_mode, box = image.mode, _raw_mode(image), unfilled_lines.extent(image)
    orientation = _orientation(image)
    file.begin()
    image.load()
    state = _with_filling(state, image, file, content, box)
    upright, used_bits = to_rgb(image, raw_mode)
    # What is left to do: Pillow's TIFF decoder has turned the picture already, the others have not.
    to_apply = _orientation(image) if orientation > 1 else 1
    if to_apply in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[to_apply])
    # Counted last: looking for further frames moves an animation away from its first one.
    frames = _frames(image)
    name = cast(str, image.format)
    return Decoded(upright, name, mode, orientation, frames, used_bits, state.doubt, state.oddity)


def _with_filling(
    state: FileState,
    image: Image.Image,
    file: unfilled_lines.JpegFile,
    content: bytes,
    box: unfilled_lines.Box,
) -> FileState:
    """Adds what the decoded picture tells.

    Raises:
        ImageError: parts of it were never filled.
    """
    if image.format in ("JPEG", "MPO"):
        found = file.end()
    elif unfilled_lines.is_suspect(image, box) and unfilled_lines.has_holes(content, _FORMATS, box):
        found = FileState(damage=unfilled_lines.TOO_FEW)
    else:
        found = NOTHING
    if found.damage:
        raise ImageError(found.damage)
    return replace(state, doubt=state.doubt or found.doubt) if found.doubt else state


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the pixels in the file, before they are loaded: it tells depths that are reduced."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


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
    """What is wrong with the file, in words about the file."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the limit of {MAX_PIXELS} pixels"
    text = " ".join(str(error).split())
    if text.startswith("cannot identify image file"):
        return _UNKNOWN
    # Other kinds of exception, and what looks like code, speak of Pillow's insides.
    if not text or not isinstance(error, OSError | SyntaxError | ValueError) or _CODE.search(text):
        return _CHANGED
    return text
