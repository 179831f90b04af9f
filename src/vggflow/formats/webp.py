"""WEBP: RIFF chunks with their lengths, without checksums (Google, "WebP Container Specification")."""

import struct

from vggflow.formats.file_state import FileState


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def check(content: bytes) -> FileState:
    """Checks that all chunks that are announced are there."""
    end, start = 8 + int.from_bytes(content[4:8], "little"), 12
    while start + 8 <= min(end, len(content)):
        name, length = struct.unpack_from("<4sI", content, start)
        start += 8 + length
        if start > len(content):
            return FileState(damage=f"the file ends in the middle of {name.decode('latin-1').strip()!r}")
        start += length % 2  # an odd one is filled up by a byte
    # That last filling byte may be missing.
    if end > len(content) + 1:
        return FileState(doubt=f"the file ends at byte {len(content)}, its header says {end}")
    return FileState()
