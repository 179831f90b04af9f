"""The outcome of looking at an image file's structure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FileState:
    """What is wrong with a file, in one line each, null where nothing is.

    Attributes:
        damage: pixels are lost for sure.
        doubt: pixels may be lost or wrong, and the format does not let one say.
        oddity: something that has no influence on pixels.
        last_pixel_byte: where the last byte of a sequential JPEG's pixels lies, -1 where that is not known.
    """

    damage: str | None = None
    doubt: str | None = None
    oddity: str | None = None
    last_pixel_byte: int = -1


NOTHING = FileState()
