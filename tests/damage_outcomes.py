"""What the gate says of each damaged file of the corpus, counted per cell, and why where it says nothing.

The damage lies at seeded places, so the numbers are exact for the decoders of the locked Pillow.
"""

from image_corpus import KINDS

Cells = dict[str, tuple[str, str]]

SEEN = ""
IN_STEP = "the decoder finds its place again, and ends within a block or two of the last byte"
PROGRESSIVE = "a scan may lack data, of which Pillow does not tell; only marks are checked"
RESTARTS = "the decoder begins anew at the next restart mark, so only a mark that is lost or made up is seen"
RAW = "no checksum and nothing compressed: every byte is a colour"
CODES = "no checksum, and changed codes still give all the rows, in other colours"
STREAM = "no checksum, and nearly every stream of bits decodes to some picture"

# How many of 120 flipped bits the decoder refuses by itself, without any check of ours. Where the gate sees no more,
# the outcome is the same with and without these checks, rightly: a PNG's decoder refuses all of them already, and in
# the other kinds no checksum tells a changed byte from another picture.
SEEN_BY_THE_DECODER = dict.fromkeys(KINDS, 120) | {
    "jpeg": 3,
    "jpeg grey": 1,
    "jpeg cmyk": 0,
    "jpeg 4:4:4": 1,
    "jpeg progressive": 1,
    "jpeg restarts": 1,
    "png alpha": 113,
    "gif": 12,
    "bmp": 0,
    "bmp grey": 0,
    "webp": 19,
    "webp lossless": 2,
    "tiff": 0,
    "tiff lzw": 5,
    "tiff deflate": 112,
    "tiff 16 bits": 0,
    "avif": 1,
}
NOBODY_CAN_TELL = (PROGRESSIVE, RAW, CODES, STREAM)


def _all(outcome: str) -> Cells:
    return dict.fromkeys(KINDS, (outcome, SEEN))


OUTCOMES: dict[str, Cells] = {
    "cut off in the pixels": _all("5 refused"),
    "the last byte lost": _all("1 refused")
    | {kind: ("1 warned", SEEN) for kind in KINDS if kind.startswith(("png", "gif"))},
    "a bit flipped": _all("120 refused")
    | {
        "jpeg": ("91 accepted, 26 warned, 3 refused", IN_STEP),
        "jpeg grey": ("96 accepted, 23 warned, 1 refused", IN_STEP),
        "jpeg cmyk": ("109 accepted, 6 warned, 5 refused", IN_STEP),
        "jpeg 4:4:4": ("92 accepted, 27 warned, 1 refused", IN_STEP),
        "jpeg progressive": ("119 accepted, 1 refused", PROGRESSIVE),
        "jpeg restarts": ("115 accepted, 2 warned, 3 refused", RESTARTS),
        "gif": ("108 accepted, 12 refused", CODES),
        "bmp": ("120 accepted", RAW),
        "bmp grey": ("120 accepted", RAW),
        "webp": ("101 accepted, 19 refused", STREAM),
        "webp lossless": ("118 accepted, 2 refused", STREAM),
        "tiff": ("120 accepted", RAW),
        "tiff lzw": ("115 accepted, 5 refused", CODES),
        "tiff 16 bits": ("120 accepted", RAW),
        "avif": ("119 accepted, 1 refused", STREAM),
    },
    "32 bytes made zero": _all("40 refused")
    | {
        "jpeg": ("18 accepted, 22 warned", IN_STEP),
        "jpeg grey": ("34 accepted, 6 warned", IN_STEP),
        "jpeg cmyk": ("23 accepted, 5 warned, 12 refused", IN_STEP),
        "jpeg 4:4:4": ("40 warned", SEEN),
        "jpeg progressive": ("40 accepted", PROGRESSIVE),
        "jpeg restarts": ("37 accepted, 2 warned, 1 refused", RESTARTS),
        "gif": ("1 accepted, 39 refused", CODES),
        "bmp": ("40 accepted", RAW),
        "bmp grey": ("40 accepted", RAW),
        "webp": ("40 accepted", STREAM),
        "webp lossless": ("39 accepted, 1 refused", STREAM),
        "tiff": ("40 accepted", RAW),
        "tiff lzw": ("11 accepted, 29 refused", CODES),
        "tiff 16 bits": ("40 accepted", RAW),
        "avif": ("40 accepted", STREAM),
    },
    "64 bytes lost": _all("40 refused")
    | {
        "jpeg": ("26 accepted, 10 warned, 4 refused", IN_STEP),
        "jpeg grey": ("3 accepted, 37 refused", IN_STEP),
        "jpeg cmyk": ("2 accepted, 38 refused", IN_STEP),
        "jpeg 4:4:4": ("12 accepted, 2 warned, 26 refused", IN_STEP),
        "jpeg progressive": ("40 accepted", PROGRESSIVE),
        "jpeg restarts": ("34 accepted, 6 refused", RESTARTS),
    },
}
