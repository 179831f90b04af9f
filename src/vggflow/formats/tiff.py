"""TIFF: tags that say where the pixels lie, without checksums (Adobe, "TIFF Revision 6.0")."""

import struct
import zlib
from typing import cast

from vggflow.formats.file_state import FileState

_AT_ONCE = 1 << 20  # bytes unpacked, so that a bomb takes no memory
_TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_COMPRESSION, _DEFLATE = 259, (8, 32946)  # Adobe's number, and an older one
_PLACES, _LENGTHS = (273, 324), (279, 325)  # of strips, of tiles


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    # BigTIFF, with `+` for `*`, is laid out otherwise and left to the decoder.
    return content[:4] in (b"II*\0", b"MM\0*")


def check(content: bytes) -> FileState:
    """Checks that the parts of the first picture lie within the file."""
    try:
        tags = _tags(content)
    except struct.error:
        return FileState(damage="the file ends in its tags")
    places = next((tags[tag] for tag in _PLACES if tag in tags), ())
    lengths = next((tags[tag] for tag in _LENGTHS if tag in tags), ())
    deflated = tags.get(_COMPRESSION, (0,))[0] in _DEFLATE
    for place, length in zip(places, lengths, strict=False):
        if place + length > len(content):
            return FileState(
                damage=f"pixels at bytes {place} to {place + length}, the file has {len(content)}"
            )
        if deflated and not _is_sound(content[place : place + length]):
            return FileState(
                damage=f"the checksum of the pixels at byte {place} is wrong: bytes were changed"
            )
    if len(places) != len(lengths):
        return FileState(doubt=f"{len(places)} parts of the picture with {len(lengths)} lengths")
    return FileState()


def _is_sound(part: bytes) -> bool:
    """Whether a part unpacks to its end, where its checksum stands; libtiff stops when it has all rows."""
    packed = zlib.decompressobj()
    try:
        while part and not packed.eof:
            packed.decompress(part, _AT_ONCE)
            part = packed.unconsumed_tail
    except zlib.error:
        return False
    return packed.eof


def _tags(content: bytes) -> dict[int, tuple[int, ...]]:
    """The whole numbers of the tags that tell where the first picture lies."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    found = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, place)
        if tag in (*_PLACES, *_LENGTHS, _COMPRESSION) and kind in _TYPES:
            size = number * struct.calcsize(_TYPES[kind])
            # Up to four bytes stand in the tag itself, else it says where they are.
            at = place + 8 if size <= 4 else struct.unpack_from(order + "I", content, place + 8)[0]
            if at + size > len(content):
                raise struct.error
            values = struct.unpack_from(f"{order}{number}{_TYPES[kind]}", content, at)
            found[tag] = cast("tuple[int, ...]", values)
    return found
