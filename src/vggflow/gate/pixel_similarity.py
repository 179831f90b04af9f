"""Whether two files show the same picture, told from their pixels."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggflow.data.images import ImageError, open_image
from vggflow.data.places import Place

# Bumped whenever the similarity of unchanged files would come out differently.
VERSION = 2

FLAT_PX = 128
SIZE_PX = 32
# Crops tried: of a tenth in the middle, and of a twentieth at nine places.
_CROPS = [(0.1, 0.5, 0.5), *((0.05, x, y) for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0))]

Box = tuple[float, float, float, float]


def similarity(pair: Sequence[Sequence[Any]]) -> float | None:
    """How alike the pictures at two `Place`s are, from -1 to 1; from 0.9 on one is nearly always a copy of the other.

    Null where one of the files can't be decoded.

    It is the correlation of their colours at 32×32 pixels, which brightness and contrast don't change, for
    the best way to lay one picture over a slightly cropped other.
    """
    try:
        flat = [_flat(open_image(Place(*place))) for place in pair]
    except ImageError:
        return None
    whole = [_vector(image, (0, 0, FLAT_PX, FLAT_PX)) for image in flat]
    fits = [float(whole[0] @ whole[1])]
    # Either of the two may be the one that was cropped.
    for which, image in enumerate(flat):
        fits += [float(whole[1 - which] @ _vector(image, box)) for box in _boxes()]
    return max(fits)


def _flat(image: Image.Image) -> Image.Image:
    # Shrunk once for all crops; `reducing_gap` does most of that by whole numbers, which is quicker.
    return image.resize((FLAT_PX, FLAT_PX), Image.Resampling.BOX, reducing_gap=2.0)


def _boxes() -> Iterator[Box]:
    for share, x, y in _CROPS:
        left, upper, side = FLAT_PX * share * x, FLAT_PX * share * y, FLAT_PX * (1 - share)
        yield left, upper, left + side, upper + side


def _vector(image: Image.Image, box: Box) -> NDArray[np.float64]:
    """The colours without their mean, as a vector of length 1, or 0 for a picture of one colour."""
    small = image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX, box=box)
    colours = np.asarray(small, dtype=np.float64).ravel()
    colours = colours - colours.mean()
    length = float(np.linalg.norm(colours))
    return cast(NDArray[np.float64], colours / length if length else colours)
