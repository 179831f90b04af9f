"""Every kind of image file, whole and damaged, has the class that docs/settings.md promises for it.

The corpus is made in `image_corpus.py`, and what is expected of it stands in `damage_outcomes.py`.
"""

import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage_outcomes import NOBODY_CAN_TELL, OUTCOMES, SEEN_BY_THE_DECODER
from image_corpus import DAMAGE, KINDS, PICTURE, damaged, data_of, deep, is_decoded, judged
from made_pictures import encode, grow
from PIL import Image

from vggflow.data.images import ImageError, decode
from vggflow.gate import tables
from vggflow.gate.scan import scan

SETTINGS_PAGE = Path(__file__).parents[3] / "docs/settings.md"
# The kinds that the page's table gives numbers for, by row.
ON_THE_PAGE = {
    "JPEG": {
        "": "jpeg",
        "grey": "jpeg grey",
        "CMYK": "jpeg cmyk",
        "4:4:4": "jpeg 4:4:4",
        "progressive": "jpeg progressive",
        "restart marks": "jpeg restarts",
    },
    "PNG": {"": "png"},
    "GIF": {"": "gif"},
    "WEBP": {"": "webp", "lossless": "webp lossless"},
    "TIFF": {"": "tiff", "LZW": "tiff lzw", "Deflate": "tiff deflate"},
    "AVIF": {"": "avif"},
    "BMP": {"": "bmp"},
}
TRANSPOSED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode(content).image, dtype=int)


def counted(kind: str, damage: str) -> str:
    """Such as `91 accepted, 26 warned, 3 refused`."""
    found = Counter(judged(content) for content in damaged(kind, damage))
    order = ("accepted", "noted", "warned", "refused")
    return ", ".join(f"{found[name]} {name}" for name in order if found[name])


def chunk(name: bytes, body: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_accepted_without_a_word(kind):
    assert judged(KINDS[kind](PICTURE)) == "accepted"


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_behind_the_end_are_no_damage(kind):
    assert judged(KINDS[kind](PICTURE) + b"bytes of another kind") == "accepted"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_as_far_as_the_format_lets_one(kind, damage):
    assert counted(kind, damage) == OUTCOMES[damage][kind][0]


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_that_the_decoder_misses_are_seen_wherever_anybody_can_see_them(kind):
    """In 7 of the 22 kinds the gate sees more than its decoder; in the others there is nothing left to see.

    Those are five kinds of PNG, whose decoder refuses all of these, and ten kinds in which a changed byte is only
    another picture. Their outcomes are what they are with our checks and without.
    """
    alone = sum(not is_decoded(content) for content in damaged(kind, "a bit flipped"))
    outcome, why = OUTCOMES["a bit flipped"][kind]
    seen = sum(int(word.split()[0]) for word in outcome.split(", ") if "accepted" not in word)

    assert alone == SEEN_BY_THE_DECODER[kind]
    assert seen > alone or alone == 120 or why in NOBODY_CAN_TELL


def test_every_cell_of_the_table_is_filled_and_says_why_damage_is_accepted():
    assert OUTCOMES.keys() == DAMAGE.keys()
    assert {tuple(cells) for cells in OUTCOMES.values()} == {tuple(KINDS)}
    for outcome, why in (cell for cells in OUTCOMES.values() for cell in cells.values()):
        assert bool(why) == ("accepted" in outcome)


def test_the_page_says_how_many_of_120_flipped_bits_are_seen():
    rows = [line.split("|") for line in SETTINGS_PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {row[1].strip(): row[-2].strip() for row in rows if row[1].strip() in ON_THE_PAGE}

    assert told == {row: ", ".join(seen_bits(kinds)) for row, kinds in ON_THE_PAGE.items()}


def seen_bits(kinds: dict[str, str]) -> Iterator[str]:
    for name, kind in kinds.items():
        words = OUTCOMES["a bit flipped"][kind][0].split(", ")
        seen = sum(int(word.split()[0]) for word in words if "accepted" not in word)
        yield f"{name} {seen}".strip()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("jpeg") and "prog" not in kind])
def test_jpeg_data_that_are_missing_are_refused_and_left_over_ones_are_warned_of(kind):
    content = KINDS[kind](PICTURE)
    data = data_of(kind, content)
    middle = data.start + len(data) // 2
    gone = len(data) // 8
    if kind != "jpeg restarts":
        assert judged(content[:middle] + content[middle + gone :]) == "refused"
    assert judged(content[: -gone - 2] + b"\xff\xd9") == "refused"
    assert judged(content[:-2] + bytes(range(1, 60)) + b"\xff\xd9") == "warned"
    assert judged(content[:-2] + b"\xff\xff\xff\xd9") == "accepted", "filling before a mark is allowed"


def test_restart_marks_are_counted_and_in_order():
    content = KINDS["jpeg restarts"](PICTURE)
    first, second = content.index(b"\xff\xd0"), content.index(b"\xff\xd1")
    reason = "restart marks"

    with pytest.raises(ImageError, match=reason):
        decode(content[:first] + content[second:])
    with pytest.raises(ImageError, match=reason):
        decode(content[: first + 1] + b"\xd3" + content[first + 2 :])


def test_a_mark_in_the_middle_of_the_pixels_is_refused():
    content = bytearray(KINDS["jpeg"](PICTURE))
    place = data_of("jpeg", bytes(content)).start + 300
    content[place : place + 2] = b"\xff\x5a"

    with pytest.raises(ImageError, match="a mark that has no place there"):
        decode(bytes(content))


@pytest.mark.parametrize("mark", [b"\xff\xd3", b"\xff\x01"])
def test_a_mark_in_a_scan_of_a_progressive_jpeg_is_refused(mark):
    content = bytearray(KINDS["jpeg progressive"](PICTURE))
    data = data_of("jpeg progressive", bytes(content))
    middle = data.start + len(data) // 2
    content[middle : middle + 2] = mark

    assert is_decoded(bytes(content))
    assert judged(bytes(content)) == "refused"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("png")])
@pytest.mark.parametrize("place", range(4))
def test_the_checksum_of_a_png_s_pixels_counts_also_where_the_decoder_has_all_rows(kind, place):
    content = bytearray(KINDS[kind](PICTURE))
    content[-16 + place] ^= 1

    assert is_decoded(bytes(content))
    assert judged(bytes(content)) == "refused"


def test_a_gif_whose_picture_has_no_last_piece_is_refused():
    content = KINDS["gif"](PICTURE)[:-2]

    assert is_decoded(content)
    with pytest.raises(ImageError, match="the file ends in the middle of its picture"):
        decode(content)


def test_an_avif_with_a_box_of_no_size_is_doubtful():
    content = KINDS["avif"](PICTURE) + struct.pack(">I", 4) + b"free"

    assert is_decoded(content)
    assert judged(content) == "warned"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("webp", "the file ends in the middle of 'VP8'"),
        ("webp lossless", "the file ends in the middle of 'VP8L'"),
        ("avif", "the file ends in the middle of 'mdat'"),
        ("tiff lzw", "the file ends in its tags"),
        ("tiff deflate", "the file ends in its tags"),
    ],
)
def test_what_is_cut_off_is_named_where_the_decoder_knows_no_reason(kind, reason):
    *_, content = damaged(kind, "cut off in the pixels")

    with pytest.raises(ImageError, match=reason):
        decode(content)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_a_critical_png_chunk_is_refused(name):
    content = bytearray(KINDS["png palette"](PICTURE))
    start = content.index(name) - 4
    (length,) = struct.unpack_from(">I", content, start)
    content[start + 8 + length] ^= 1

    assert judged(bytes(content)) == "refused"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("rows", [1, 40, 71])
def test_png_rows_that_were_never_in_the_file_are_refused(rows, interlaced):
    values = np.full((72, 96, 3), 200, np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in values)[: rows * 289]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 72, 8, 2, 0, 0, int(interlaced)))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")

    assert judged(content) == "refused"


def test_a_picture_with_a_black_foot_is_whole():
    image = PICTURE.copy()
    image.paste("black", (0, 40, 96, 72))
    accepted = {kind: judged(make(image)) for kind, make in KINDS.items()}

    assert set(accepted.values()) == {"accepted"}


@pytest.mark.parametrize("end", [1, 5, 12])
def test_a_png_without_its_end_mark_is_doubtful(end):
    assert judged(KINDS["png"](PICTURE)[:-end]) == "warned"


PROFILE = b"icc\0\0" + zlib.compress(os.urandom(1000) * 1500)
XMP = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" * 540_000)
METADATA = {
    "an ICC profile of 1.5 MB": ("noted", chunk(b"iCCP", PROFILE)),
    "XMP of 1.6 MB": ("noted", chunk(b"iTXt", XMP)),
    "70 MB of text": (
        "noted",
        b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 1_000_000)) for _ in range(70)),
    ),
    "a text with a wrong checksum": ("noted", chunk(b"tEXt", b"a\0b", wrong=1)),
    "a size of pixels that is too short": ("noted", chunk(b"pHYs", b"\0")),
    "an orientation with a wrong checksum": ("warned", chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0", wrong=1)),
    "a transparency with a wrong checksum": ("warned", chunk(b"tRNS", b"\0\1\0\2\0\3", wrong=1)),
    "a private chunk": ("accepted", chunk(b"abCd", b"whatever")),
}


@pytest.mark.parametrize("name", METADATA)
def test_png_metadata_do_not_decide_about_pixels(name):
    expected, extra = METADATA[name]
    content = KINDS["png"](PICTURE)
    with_more = content[:33] + extra + content[33:]
    decoded = decode(with_more)

    assert judged(with_more) == expected
    assert np.array_equal(np.asarray(decoded.image), np.asarray(PICTURE))
    assert not any(word in f"{decoded.doubt}{decoded.oddity}" for word in ("MAX_", "Plugin", "b'"))


def test_orientation_survives_metadata_that_are_left_out():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(PICTURE, "PNG", exif=exif)
    decoded = decode(content[:33] + chunk(b"iCCP", PROFILE) + content[33:])

    assert decoded.orientation == 6
    assert decoded.image.size == (72, 96)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF deflate"])
def test_orientation_is_applied_once_in_every_format(kind, orientation):
    stored = PICTURE
    if orientation > 1:
        stored = PICTURE.transpose(Image.Transpose(TRANSPOSED[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind == "TIFF deflate":
        options = {"compression": "tiff_adobe_deflate"}
    decoded = decode(encode(stored, kind.split()[0], exif=exif, **options))
    apart = (
        np.abs(np.asarray(decoded.image, dtype=int) - np.asarray(PICTURE, dtype=int))
        if decoded.image.size == (96, 72)
        else None
    )

    assert decoded.orientation == orientation
    assert apart is not None
    assert apart.mean() < (4 if kind == "JPEG" else 0.001)


def white_is_zero(values: np.ndarray, compression: str | None = None) -> bytes:
    """A grey TIFF that counts from white to black."""
    options = {"compression": compression} if compression else {}
    content = bytearray(encode(Image.fromarray(values), "TIFF", **options))
    start = struct.unpack_from("<I", content, 4)[0]
    for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", content, start)[0], 12):
        if struct.unpack_from("<H", content, place)[0] == 262:
            struct.pack_into("<H", content, place + 8, 0)
    return bytes(content)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_tiff_that_counts_from_white_to_black_is_turned_round_at_every_depth(depth, compression):
    most = np.iinfo(depth).max
    values = np.array([[0, most // 4, most // 2, most]] * 4, dtype=depth)
    grey = pixels(white_is_zero(values, compression))[0, :, 0].tolist()

    assert grey == [255, 255 - 63, 255 - 127, 0]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_sensor_s_bits_in_16_are_named_as_the_cause(tmp_path, bits):
    data = grow(tmp_path / "data")
    place = data / "train" / "cats"
    (place / "sensor.png").write_bytes(encode(deep(PICTURE, 2 ** (bits - 8)), "PNG"))
    (place / "whole.png").write_bytes(encode(deep(PICTURE), "PNG"))
    (place / "black.png").write_bytes(encode(deep(Image.new("L", (96, 72))), "PNG"))
    table = tables.image_table(scan(data)).set_index("path")
    sensor = table.loc["train/cats/sensor.png"]

    assert (
        sensor["unused_bits"]
        == f"{bits} of 16 bits are used, which leaves {2 ** (bits - 8)} of 256 steps of light"
    )
    assert sensor[["brightness", "contrast", "sharpness"]].isna().all()
    assert table["unused_bits"].notna().sum() == 1
    assert table.loc["train/cats/black.png", "brightness"] == 0


def test_colours_of_12_bits_in_16_are_seen_too():
    values = (np.asarray(PICTURE).astype(np.uint16) * 16).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 72, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    assert decode(content).used_bits == 12


@pytest.mark.skipif("VGGFLOW_PHOTOS" not in os.environ, reason="needs photographs")
def test_no_photograph_is_called_damaged():
    photographs = sorted(Path(os.environ["VGGFLOW_PHOTOS"]).glob("*/*/*.jpg"))
    told = {str(path): state for path in photographs if (state := judged(path.read_bytes())) != "accepted"}

    assert len(photographs) >= 1000
    assert told == {}
