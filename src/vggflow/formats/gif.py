"""GIF: blocks in pieces of up to 255 bytes, without checksums (CompuServe, "GIF89a Specification")."""

from vggflow.formats.file_state import FileState

_EXTENSION, _PICTURE, _END = 0x21, 0x2C, 0x3B


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    return content[:6] in (b"GIF87a", b"GIF89a")


def check(content: bytes) -> FileState:
    """Follows the blocks to the end mark; the first picture must be there to its last piece."""
    # Six bytes of signature, seven that describe the screen.
    if len(content) < 13:
        return FileState(damage="the file ends in its header")
    start, pictures = 13 + _colours(content[10]), 0
    while start < len(content) and content[start] in (_EXTENSION, _PICTURE):
        picture = content[start] == _PICTURE
        if picture and start + 10 > len(content):
            break
        # Behind a picture's ten bytes and its code size, or behind the mark and the label of an extension.
        end = _pieces(content, start + 11 + _colours(content[start + 9]) if picture else start + 2)
        if end is None:
            # Only the first frame is ever used, so a later one that is cut off costs nothing.
            return FileState(damage="the file ends in the middle of its picture") if not pictures else _CUT
        pictures += picture
        start = end
    if pictures and start < len(content) and content[start] == _END:
        return FileState()
    return _CUT


_CUT = FileState(doubt="the file ends before its end mark")


def _colours(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    # Three bytes for each of 2, 4 … 256 colours.
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _pieces(content: bytes, start: int) -> int | None:
    """Where the pieces end that begin there; null where the file ends before."""
    while start < len(content):
        if not content[start]:
            return start + 1
        start += content[start] + 1
    return None
