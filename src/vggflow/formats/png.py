"""PNG: chunks with a length, a name and a checksum each (W3C, "Portable Network Graphics", 3rd edition)."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from vggflow.formats.file_state import FileState

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Pixels depend on these: transparency and orientation, though a decoder may do without them.
_OF_PIXELS = {b"tRNS", b"eXIf"}
# A file may be made of nothing but chunks, millions of them.
MOST_NAMED = 20


class Chunk(NamedTuple):
    """A chunk at `start`; `end` is behind its checksum, and may lie behind the end of the file."""

    name: bytes
    start: int
    end: int


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    return content.startswith(_SIGNATURE)


def check(content: bytes) -> FileState:
    """Checks the checksum of every chunk, and that there is an end."""
    last, of_pixels, odd = None, None, set[str]()
    for last in _chunks(content):
        if last.end > len(content) or _sound(content, last):
            continue
        # A capital begins the names of chunks that no decoder can do without.
        if not last.name[0] & 0x20:
            return FileState(damage=f"the checksum of {_told(last)} is wrong: bytes were changed")
        if last.name in _OF_PIXELS:
            of_pixels = of_pixels or last
        elif len(odd) < MOST_NAMED:
            odd.add(last.name.decode("latin-1"))
    if last and last.name == b"IDAT" and last.end > len(content):
        return FileState(damage=f"the file ends in the middle of {_told(last)}")
    if last is None or last.name != b"IEND" or last.end > len(content):
        return FileState(doubt="the file ends before its end mark")
    if of_pixels:
        return FileState(doubt=f"the checksum of {_told(of_pixels)} is wrong: colours or direction may be")
    return FileState(oddity=f"metadata with a wrong checksum: {', '.join(sorted(odd))}" if odd else None)


def without_metadata(content: bytes) -> tuple[bytes, set[str]]:
    """The chunks that pixels depend on, and the names of the others."""
    kept, left_out, start, end = [_SIGNATURE], set[str](), 0, 0
    for chunk in _chunks(content):
        critical = not chunk.name[0] & 0x20
        if critical or (chunk.name in _OF_PIXELS and _sound(content, chunk)):
            # Neighbours are kept as one slice, as there may be millions.
            if chunk.start != end:
                kept.append(content[start:end])
                start = chunk.start
            end = chunk.end
        elif len(left_out) < MOST_NAMED:
            left_out.add(chunk.name.decode("latin-1"))
    return b"".join([*kept, content[start:end]]), left_out


def _chunks(content: bytes) -> Iterator[Chunk]:
    start = len(_SIGNATURE)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        chunk = Chunk(content[start + 4 : start + 8], start, start + 12 + length)
        # No name, so the length before it is wrong and the place is lost.
        if not chunk.name.isalpha():
            return
        yield chunk
        if chunk.name == b"IEND":
            return
        start = chunk.end


def _sound(content: bytes, chunk: Chunk) -> bool:
    # A view, as a chunk may be the whole picture.
    body = memoryview(content)[chunk.start + 4 : chunk.end - 4]
    return content[chunk.end - 4 : chunk.end] == struct.pack(">I", zlib.crc32(body))


def _told(chunk: Chunk) -> str:
    return f"{chunk.name.decode('latin-1')} at byte {chunk.start}"
