"""JPEG: segments behind markers, and scans of compressed pixels between them (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from vggflow.formats.file_state import FileState

_SOI, _EOI, _SOS, _DRI, _DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
_RESTARTS = range(0xD0, 0xD8)
# Three marks of this range begin no frame: Huffman tables, arithmetic tables, and one that is reserved.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1}  # baseline, and extended with Huffman codes
# What may stand between two scans: tables, restart interval, number of lines, applications, comments.
_BETWEEN = frozenset({0xC4, 0xCC, _SOS, 0xDB, _DNL, _DRI, _EOI, 0xFE, *range(0xE0, 0xF0)})
# In compressed data 0xFF is followed by 0; anything else is a marker, or 0xFF again as filling.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class Segment(NamedTuple):
    """A marker at `start` with its length, or with the scan that follows it, up to `end`."""

    marker: int
    start: int
    end: int


def is_one(content: bytes) -> bool:
    """Whether it begins as such a file does."""
    return content.startswith(b"\xff\xd8\xff")


def check(content: bytes) -> FileState:
    """Follows the markers to the end, and counts the restarts of every scan."""
    frame, interval, sequential, ended = b"", 0, False, False
    scans, first = 0, -1
    for segment in _segments(content):
        if segment.marker in _FRAMES:
            frame = content[segment.start + 4 : segment.end]
            sequential = segment.marker in _SEQUENTIAL
        elif segment.marker == _DRI:
            interval = int.from_bytes(content[segment.start + 4 : segment.start + 6])
        elif segment.marker == _SOS:
            damage = _scan_damage(content, segment, frame, interval)
            if damage:
                return FileState(damage=damage)
            scans += 1
            # Where further scans follow, the pixels do not end with the first one.
            first = _last_byte(content, segment) if scans == 1 else -1
        elif segment.marker == _EOI:
            ended = True
    if not ended:
        return FileState(doubt="the file ends before its end mark")
    return FileState(last_pixel_byte=first if sequential and len(frame) > 5 else -1)


def without_metadata(content: bytes) -> tuple[bytes, set[str]]:
    """The segments that pixels depend on, and the names of the others."""
    kept, left_out, behind = [b"\xff\xd8"], set(), 2
    for segment in _segments(content):
        part = content[segment.start : segment.end]
        behind = segment.end
        application = segment.marker in range(0xE0, 0xF0)
        # JFIF and Adobe tell how colours are coded, EXIF which side is up.
        needed = segment.marker in (0xE0, 0xEE) or part[4:10] == b"Exif\0\0"
        if segment.marker == 0xFE or (application and not needed):
            left_out.add("comment" if segment.marker == 0xFE else f"APP{segment.marker - 0xE0}")
        else:
            kept.append(part)
    return b"".join([*kept, content[behind:]]), left_out


def _segments(content: bytes) -> Iterator[Segment]:
    """The segments of the first picture, each up to its end; a scan's end is the next marker that ends it."""
    start = 2
    while start + 2 <= len(content):
        marker = content[start + 1]
        # Bytes between segments are passed over, as libjpeg does.
        if content[start] != 0xFF or marker in (0, 0xFF):
            found = _MARKER.search(content, start)
            if found is None:
                return
            marker, start = found.group()[-1], found.end() - 2
        if marker == _EOI:
            yield Segment(marker, start, start + 2)
            return
        # These have no length of their own.
        if marker in _RESTARTS or marker == 0x01 or start + 4 > len(content):
            start += 2
            continue
        # A length of 0 moves on as well, by the two bytes of the mark, so this always comes to an end.
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        if marker == _SOS:
            end = _scan_end(content, end)
        yield Segment(marker, start, end)
        start = end


def _scan_end(content: bytes, start: int) -> int:
    for found in _MARKER.finditer(content, start):
        if found.group()[-1] not in _RESTARTS:
            return found.start()
    return len(content)


def _scan_damage(content: bytes, scan: Segment, frame: bytes, interval: int) -> str | None:
    data = scan.start + 2 + int.from_bytes(content[scan.start + 2 : scan.start + 4])
    # Any number of 0xFF may fill the place before a mark.
    following = content[scan.end : scan.end + 16].lstrip(b"\xff")
    if following and following[0] not in _BETWEEN:
        return f"a mark that has no place there, at byte {scan.end} in the middle of the pixels"
    restarts = [found.group()[-1] - 0xD0 for found in _RESTART.finditer(content, data, scan.end)]
    # They are numbered 0 to 7, over and over.
    if any(number != place % 8 for place, number in enumerate(restarts)):
        return "restart marks out of order: parts of the pixels are lost"
    expected = _restarts(content[scan.start + 4 : data], frame, interval)
    # A mark at the very end is superfluous but harmless.
    if expected is not None and len(restarts) not in (expected, expected + 1):
        return f"{len(restarts)} restart marks, expected {expected}: parts of the pixels are lost"
    return None


def _restarts(head: bytes, frame: bytes, interval: int) -> int | None:
    """How many restarts a scan has, null where the header does not tell."""
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5] or not head:
        return None
    height, width = struct.unpack_from(">HH", frame, 1)
    samplings = {frame[6 + 3 * n]: divmod(frame[7 + 3 * n], 16) for n in range(frame[5])}
    chosen = [samplings.get(head[1 + 2 * n]) for n in range(head[0]) if 1 + 2 * n < len(head)]
    if (
        not height  # it follows in a DNL segment
        or None in chosen
        or not chosen
        or 0 in [side for pair in samplings.values() for side in pair]
    ):
        return None
    if not interval:
        return 0
    across, down = (max(pair[axis] for pair in samplings.values()) for axis in (0, 1))
    # A scan of one component counts its own blocks, others count units of the largest sampling (annex A.2).
    own = chosen[0] if len(chosen) == 1 and chosen[0] else (1, 1)
    units = _units(width * own[0], 8 * across) * _units(height * own[1], 8 * down)
    return _units(units, interval) - 1  # none behind the last unit


def _units(length: int, size: int) -> int:
    return -(-length // size)


def _last_byte(content: bytes, scan: Segment) -> int:
    """Where the last byte of the pixels lies, in front of filling and of a restart mark that leads nowhere."""
    data = content[max(scan.start, scan.end - 64) : scan.end].rstrip(b"\xff")
    if data[-2:-1] == b"\xff" and data[-1] - 0xD0 in range(8):
        data = data[:-2].rstrip(b"\xff")
    last = scan.end - 1 - (min(64, scan.end - scan.start) - len(data))
    # A 0 behind 0xFF belongs to that.
    return last - 1 if content[last - 1 : last + 1] == b"\xff\0" else last
