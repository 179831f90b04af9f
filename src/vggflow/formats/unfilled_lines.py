"""Whether a decoder filled the whole picture: where compressed data end early, some leave the rest as it was."""

import io

from PIL import Image

from vggflow.formats.file_state import NOTHING, FileState

Box = tuple[int, int, int, int]

_LEFT_OVER = "compressed data are left over behind the last row: bytes were changed or lost"
TOO_FEW = "the compressed data end before the last rows of the picture"
_WHITE = {"I": 0xFFFF, "F": 1.0}
# libjpeg reads up to 8 bytes ahead; eight of ones are no code of any table, so they are soon not enough.
_ONES = b"\xff\0" * 8


class JpegFile(io.BytesIO):
    """A file whose reader gets the bytes before the last one of the pixels first, from `begin` on.

    A decoder of a whole sequential JPEG comes back once: for the last byte, behind which it finds ones that it
    does not use up.
    """

    def __init__(self, content: bytes, last_pixel_byte: int) -> None:
        super().__init__(content)
        self._last = last_pixel_byte
        self._returns = -1

    def begin(self) -> None:
        """From now on it is read to decode pixels."""
        if self._last >= 0:
            self._returns = 0
            # Not a method of the class: opening a picture reads many times, at the speed of C so.
            self.__dict__["read"] = self._read_in_two

    def _read_in_two(self, size: int) -> bytes:
        place = self.tell()
        if place < self._last:
            return super().read(min(size, self._last - place))
        self._returns += 1
        if self._returns > 1:
            return super().read(size)
        last = super().read(1)
        # The 0 behind 0xFF belongs to it.
        return (last + super().read(1) if last == b"\xff" else last) + _ONES

    def end(self) -> FileState:
        """Whether the pixels took all of the data, and had enough of them.

        A bit that was changed in a code makes the decoder lose its place, so in the end data are left over or
        missing. libjpeg only warns of that, which Pillow keeps to itself, and fills what is missing with grey.
        """
        self.__dict__.pop("read", None)
        if self._returns == 0:
            return FileState(doubt=_LEFT_OVER)
        return FileState(damage=TOO_FEW) if self._returns > 1 else NOTHING


def extent(image: Image.Image) -> Box:
    """The part of a picture that the file has pixels for, before it is loaded: a GIF's may be smaller."""
    boxes = [tile.extents for tile in getattr(image, "tile", ()) if tile.extents]
    if not boxes:
        return (0, 0, *image.size)
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def is_suspect(image: Image.Image, box: Box) -> bool:
    """Whether a row at the end is as empty as if it had never been filled."""
    if image.format == "TIFF":  # it may have been turned since, so the end is at any side
        width, height = image.size
        sides = [
            (0, 0, width, 1),
            (0, height - 1, width, height),
            (0, 0, 1, height),
            (width - 1, 0, width, height),
        ]
    else:
        left, upper, right, lower = box
        sides = [(left, row, right, row + 1) for row in range(max(upper, lower - 2), lower)]
    # Quick for a whole picture; only one whose edge is all 0 is decoded a second time.
    return any(image.crop(side).im.getbbox() is None for side in sides)


def has_holes(content: bytes, formats: tuple[str, ...], box: Box) -> bool:
    """Decodes once more, on white instead of black: what differs was never filled."""
    pictures = []
    for share in (0, 1):
        image = Image.open(io.BytesIO(content), formats=formats)
        if hasattr(image, "_frame_transparency"):
            image._frame_transparency = None  # else a GIF's ground is its transparent colour
        turned = image.format == "TIFF"
        # A TIFF is decoded as it lies in the file and turned then.
        size = (box[2], box[3]) if turned else image.size
        # Pillow decodes into an `im` that is there already; else it makes one of zeros.
        image.im = Image.new(image.mode, size, _ground(image.mode, share)).im
        image.load()
        pictures.append((image if turned else image.crop(box)).tobytes())
    return pictures[0] != pictures[1]


def _ground(mode: str, share: int) -> float | tuple[int, ...]:
    if mode.startswith("I;16"):
        return 0xFFFF * share
    bands = Image.getmodebands(mode)
    return (255 * share,) * bands if bands > 1 else _WHITE.get(mode, 255) * share
