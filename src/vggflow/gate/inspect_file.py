"""One file looked at: read once, decoded, measured. All that scanning processes import, so it stays light."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

from vggflow.data import images
from vggflow.data.places import Place
from vggflow.gate.fingerprint import fingerprint

Facts = dict[str, object]

# Bumped whenever the facts of an unchanged file would come out differently.
VERSION = 2

_FOREIGN = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".eps", ".pdf", ".raw", ".dng", ".cr2", ".cr3"}
    | {
        ".nef",
        ".arw",
        ".orf",
        ".ico",
        ".tga",
        ".ppm",
        ".pgm",
        ".pbm",
        ".exr",
        ".hdr",
        ".dcm",
        ".npy",
        ".tfrecord",
    }
)


def inspect(place: Sequence[Any]) -> Facts:
    """The facts of one image for its row in the manifest, by its `Place`; a bad one has its reason in `error`.

    `kind` is `image` for what is or claims to be a picture that can be read, `foreign` for a kind of picture
    that can't, and `stray` for anything else.
    """
    where = Place(*place)
    try:
        content = images.read(where)
    except images.ImageError as error:
        # No sha256, which tells the next scan to try this file again.
        return {"kind": "image", "error": str(error)}
    sha256 = hashlib.sha256(content).hexdigest()
    with warnings.catch_warnings():
        # Pillow warns of oddities that the manifest either tells or that don't matter, such as broken EXIF
        # data.
        warnings.simplefilter("ignore")
        facts = examine(content, where.suffix)
    return {"bytes": len(content), "sha256": sha256} | facts


def crashed(place: Sequence[Any]) -> Facts:
    """The facts of an image that takes the decoder's process down."""
    extension = Place(*place).suffix
    return {"kind": _kind(extension), "error": _reason(extension, "it crashes the decoder")}


def examine(content: bytes, extension: str) -> Facts:
    """The facts that the bytes and the extension of a file tell."""
    try:
        decoded = images.decode(content)
    except images.ImageError as error:
        return {"kind": _kind(extension), "error": _reason(extension, str(error))}
    seen = fingerprint(decoded.image)
    first, *crops = seen.hashes
    return {
        "kind": "image",
        "width": decoded.image.width,
        "height": decoded.image.height,
        "mode": decoded.mode,
        "format": decoded.format,
        "extension_fits": extension in _extensions(decoded.format),
        "orientation": decoded.orientation,
        "used_bits": decoded.used_bits,
        "doubt": decoded.doubt,
        "oddity": decoded.oddity,
        "frames": decoded.frames,
        "brightness": seen.brightness,
        "contrast": seen.contrast,
        "sharpness": seen.sharpness,
        "detail": seen.detail,
        "perceptual_hash": first,
    } | {f"crop_hash_{number}": value for number, value in enumerate(crops, start=1)}


def _extensions(format_name: str) -> frozenset[str]:
    # Many cameras put a second picture behind the first; Pillow then calls the JPEG an MPO.
    return images.JPEG_EXTENSIONS if format_name == "MPO" else images.EXTENSIONS_OF[format_name]


def _kind(extension: str) -> str:
    if extension in images.EXTENSIONS:
        return "image"
    return "foreign" if extension in _FOREIGN else "stray"


def _reason(extension: str, reason: str) -> str:
    if extension in images.EXTENSIONS:
        return reason
    return f"{extension} files can't be read" if extension in _FOREIGN else "not an image"
