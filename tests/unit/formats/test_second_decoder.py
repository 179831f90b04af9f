"""The corpus of image files, seen by TensorFlow's decoder too: it finds no fault that the gate misses.

TensorFlow decodes with libjpeg-turbo, libpng, giflib and libwebp of its own, without Pillow.
"""

import numpy as np
import pytest
from image_corpus import DAMAGE, KINDS, PICTURE, damaged, judged

from vggflow.data.images import decode

TAKEN = [kind for kind in KINDS if kind.startswith(("jpeg", "png", "gif", "bmp", "webp"))]
# Its JPEG decoder rounds otherwise; the others must give the same numbers.
APART = {"jpeg": 2.1}
# How many files of each cell TensorFlow refuses, where it is neither all of them nor none. It reads a GIF
# without its end mark and pixels behind which data are left over, which the gate warns of; and JPEG of which
# pieces are lost, where libjpeg only warns. Both refuse what a checksum tells, and what does not decode.
REFUSED_THERE = {
    "a bit flipped": {
        "jpeg": 3,
        "jpeg grey": 1,
        "jpeg 4:4:4": 1,
        "jpeg progressive": 1,
        "jpeg restarts": 1,
        "gif": 6,
        "webp": 19,
        "webp lossless": 2,
    },
    "32 bytes made zero": {"gif": 39, "webp lossless": 1},
    "64 bytes lost": {"jpeg grey": 1},
}
# Cells of which TensorFlow reads every file.
READ_THERE = {
    "the last byte lost": {"gif"},
    "a bit flipped": {"jpeg cmyk", "bmp", "bmp grey"},
    "32 bytes made zero": {kind for kind in TAKEN if kind.startswith(("jpeg", "bmp"))} | {"webp"},
    "64 bytes lost": {kind for kind in TAKEN if kind.startswith("jpeg")} - {"jpeg grey"},
}


@pytest.fixture(scope="module")
def seen_there():
    """What TensorFlow makes of the bytes of a file; null where it refuses them."""
    import tensorflow

    def seen(content: bytes) -> np.ndarray | None:
        try:
            image = tensorflow.io.decode_image(content, channels=3, expand_animations=False)
        except tensorflow.errors.InvalidArgumentError:
            return None
        return np.asarray(image, dtype=int)

    return seen


def apart(content: bytes, there: np.ndarray) -> float:
    """The mean difference of the pixels, of 255."""
    here = np.asarray(decode(content).image, dtype=int)
    assert here.shape == there.shape
    return float(np.abs(here - there).mean())


@pytest.mark.parametrize("kind", TAKEN)
def test_whole_files_have_the_same_pixels(kind, seen_there):
    content = KINDS[kind](PICTURE)

    assert apart(content, seen_there(content)) <= APART.get(kind.split()[0], 0)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - set(TAKEN)))
def test_tiff_and_avif_have_no_second_decoder_here(kind, seen_there):
    assert seen_there(KINDS[kind](PICTURE)) is None


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_it_refuses_the_gate_does_not_accept_and_what_both_accept_has_the_same_pixels(
    kind, damage, seen_there
):
    files = list(damaged(kind, damage))
    refused = 0
    for content in files:
        here, there = judged(content), seen_there(content)
        if there is None:
            refused += 1
            assert here in ("warned", "refused")
        elif here == "accepted":
            assert apart(content, there) <= APART.get(kind.split()[0], 0)
    all_of_them = 0 if kind in READ_THERE.get(damage, ()) else len(files)

    assert refused == REFUSED_THERE.get(damage, {}).get(kind, all_of_them)
