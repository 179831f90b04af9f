"""What the bytes of an image file tell about their being whole, beside what the decoder says.

A decoder that came to its end has not seen every fault: Pillow checks no checksum of pixels and hears none of
libjpeg's warnings. So what a format lets one check is checked here: checksums, markers, lengths, end marks.
"""

from dataclasses import dataclass

from vggflow.formats import avif, gif, jpeg, png, tiff, webp
from vggflow.formats.file_state import FileState

__all__ = ["FileState", "Metadata", "check", "without_metadata"]


@dataclass(frozen=True)
class Metadata:
    """The bytes of a file without what says nothing about its pixels, and the names of what is left out."""

    content: bytes
    left_out: tuple[str, ...]


def check(content: bytes) -> FileState:
    """Looks at the structure of a file, whatever its format; costs less than a tenth of decoding it."""
    for file in (jpeg, png, gif, webp, tiff, avif):
        if file.is_one(content):
            state: FileState = file.check(content)
            return state
    return FileState()


def without_metadata(content: bytes) -> Metadata | None:
    """The file without metadata, for a decoder that stumbles over them; null where there are none to leave out.

    The orientation (EXIF), colour tables and transparency stay, as pixels depend on them.
    """
    for file in (jpeg, png):
        if file.is_one(content):
            kept, left_out = file.without_metadata(content)
            return Metadata(kept, tuple(sorted(left_out))) if left_out else None
    return None
