"""What a picture looks like in a few numbers: light, contrast, sharpness, detail, and perceptual hashes.

The hash is the usual one of 64 bits: the lowest 8×8 frequencies of a 32×32 picture in grey, each compared
with their median (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
Re-encoding, resizing and brightness change few of its bits; a crop changes many. So each picture also gets
the hashes of the five windows that cropping 5 % leaves (in the middle and in the corners), and a crop is
found where the hash of one picture is near the hash of a window of another.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CROP = 0.05
FLAT_PX = 128
HASH_PX = 32
SIGNIFICANT = 8.0  # of a frequency's amplitude, in grey levels times HASH_PX
ENOUGH_FREQUENCIES = 200
ENOUGH_BITS = 5.0

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Fingerprint:
    """Measures of the picture in grey, shrunk to 128×128.

    Attributes:
        brightness: mean grey, 0–255.
        contrast: standard deviation of grey, 0–127.5.
        sharpness: standard deviation of the Laplacian; photographs have 6–110, blurred ones less.
        detail: from 1 on there is enough to see for perceptual hashes to tell pictures apart.
        hashes: of the whole picture, then of its five windows.
    """

    brightness: float
    contrast: float
    sharpness: float
    detail: float
    hashes: tuple[int, ...]


def fingerprint(image: Image.Image) -> Fingerprint:
    """Measures an RGB picture."""
    # Everything is measured in this small picture: what follows costs the same for every size.
    flat = image.convert("L").resize((FLAT_PX, FLAT_PX), Image.Resampling.BOX)
    grey = np.asarray(flat, dtype=np.float32)
    return Fingerprint(
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
        sharpness=float(_laplacian(grey).std()),
        detail=_detail(grey),
        hashes=_hashes(grey),
    )


def _laplacian(grey: Grey) -> Grey:
    sides = grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1]
    return cast(Grey, sides - 4 * grey[1:-1, 1:-1])


def _cosines() -> Grey:
    """The orthonormal DCT-II as a matrix: frequencies in rows."""
    frequency, place = np.arange(HASH_PX)[:, None], np.arange(HASH_PX)[None, :]
    matrix = np.cos(np.pi * (2 * place + 1) * frequency / (2 * HASH_PX)) * np.sqrt(2 / HASH_PX)
    matrix[0] /= np.sqrt(2)
    return cast(Grey, matrix.astype(np.float32))


def _shrinking(start: float, end: float) -> Grey:
    """The matrix that averages the pixels from `start` to `end` into HASH_PX ones, edges by their share."""
    edges = np.linspace(start, end, HASH_PX + 1)[:, None]
    covered = np.clip(edges - np.arange(FLAT_PX)[None, :], 0, 1)
    return (np.diff(covered, axis=0) * HASH_PX / (end - start)).astype(np.float32)


_DCT = _cosines()
_SPARE = FLAT_PX * CROP
# Whole, middle, near edge, far edge: the same for rows and columns, so two products give all windows at once.
_SPANS = [(0, FLAT_PX), (_SPARE / 2, FLAT_PX - _SPARE / 2), (0, FLAT_PX - _SPARE), (_SPARE, FLAT_PX)]
_WHOLE = _shrinking(*_SPANS[0])
_LOW = np.concatenate([_DCT[:8] @ _shrinking(*span) for span in _SPANS])
# Of the sixteen pairs of a span down and one across: whole, middle, and the four corners.
_CHOSEN = [(0, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def _hashes(grey: Grey) -> tuple[int, ...]:
    spectra = (_LOW @ grey @ _LOW.T).reshape(len(_SPANS), 8, len(_SPANS), 8)
    low = np.stack([spectra[row, :, column].ravel() for row, column in _CHOSEN])
    bits = low > np.median(low, axis=1, keepdims=True)
    return tuple(int(value) for value in (bits * _BITS).sum(axis=1, dtype=np.uint64))


def _detail(grey: Grey) -> float:
    """The scarcer of two things, each relative to what is enough: frequencies, and bits of grey per pixel.

    Enlarged thumbnails lack the one, drawings and handwriting the other.
    """
    small = _WHOLE @ grey @ _WHOLE.T
    frequencies = int((np.abs(_DCT @ small @ _DCT.T) > SIGNIFICANT).sum())
    share = np.bincount(small.astype(np.uint8).ravel()) / small.size
    # A grey level that is missing would make the sum NaN, by the logarithm of 0.
    share = share[share > 0]
    bits = float(-(share * np.log2(share)).sum())
    return min(frequencies / ENOUGH_FREQUENCIES, bits / ENOUGH_BITS)
