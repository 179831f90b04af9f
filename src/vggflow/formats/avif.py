"""AVIF: boxes with their lengths, without checksums (ISO/IEC 14496-12)."""

from vggflow.formats.file_state import FileState


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    # `mif1` and `miaf` are names of the container, which may come before that of AVIF.
    return content[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1", b"ftypmiaf")


def check(content: bytes) -> FileState:
    """Checks that the boxes that are announced are there."""
    start = 0
    while start + 8 <= len(content):
        length, name = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        if length == 1:  # the length follows in 64 bits
            length = int.from_bytes(content[start + 8 : start + 16])
        if length == 0:  # up to the end of the file
            return FileState()
        # Only these hold what pixels need.
        if start + length > len(content) and name in (b"ftyp", b"meta", b"mdat"):
            return FileState(damage=f"the file ends in the middle of {name.decode('latin-1')!r}")
        if length < 8:
            return FileState(doubt=f"a box of {length} bytes at byte {start}")
        start += length
    return FileState()
