"""Decoded pixels as RGB of 8 bits, whatever their number of bits, their palette and their meaning in the file."""

from typing import NamedTuple, cast

import numpy as np
from PIL import Image

_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0
# Sensors have 10, 12 or 14 bits; a picture in 16 of which fewer are used comes from one, and is nearly black.
MOST_OF_SENSORS = 14


class Rgb(NamedTuple):
    """A picture in RGB; `used_bits` is how many of 16 bits its largest value needs, null for other depths."""

    image: Image.Image
    used_bits: int | None


def to_rgb(image: Image.Image, raw_mode: str) -> Rgb:
    """Converts a picture that was loaded; transparent parts become white.

    Args:
        raw_mode: Pillow's name for the pixels in the file, such as `RGB;16B`.

    Raises:
        ValueError: the pixels have no known range, or there is no way to RGB.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits a channel")
    used = _used_of_reduced(image) if ";16" in raw_mode else None
    return Rgb(_from_8_bits(image), used)


def _from_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        # Counting the frames of an animation moves it on, and would change this very picture.
        return image.copy() if getattr(image, "is_animated", False) else image
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Rgb:
    """Pillow's own conversion clips at 255, which turns nearly every such picture white."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise ValueError(
            "pixels of more than 16 bits have no known range; save it with 8 or 16 bits a channel"
        )
    eight = np.empty(values.shape, np.uint8)
    # An 8-bit value is stored in 16 bits as 257 times itself; no wider array is made on the way.
    np.floor_divide(values, 257, out=eight, casting="unsafe")
    if _is_inverted(image):
        np.subtract(255, eight, out=eight)
    return Rgb(Image.fromarray(eight).convert("RGB"), high.bit_length() if high > low else None)


def _is_inverted(image: Image.Image) -> bool:
    """TIFF may count from white to black; Pillow turns that round for all depths but 16 bits."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE


def _used_of_reduced(image: Image.Image) -> int | None:
    """Pillow keeps the upper 8 of 16 bits of colours: the largest value tells the rest."""
    bands = cast("tuple[tuple[int, int], ...]", image.getextrema())
    # Of one band Pillow gives the pair itself.
    if not isinstance(bands[0], tuple):
        bands = (cast("tuple[int, int]", bands),)
    # Alpha is no light, and where nothing is transparent its largest value uses all bits.
    colours = [band for name, band in zip(image.getbands(), bands, strict=True) if name not in ("A", "a")]
    low, high = min(band[0] for band in colours), max(band[1] for band in colours)
    return high.bit_length() + 8 if high > low else None
