"""The members of a zip, and what they are called."""

import struct
import zipfile
import zlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from vggflow.data.images import MAX_BYTES
from vggflow.data.layout import shown
from vggflow.data.names import printable
from vggflow.errors import DataError
from vggflow.importing.items import DAMAGE, Count, member
from vggflow.importing.sources import Item, Limits, Skipped

_READ = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
# PKWARE's APPNOTE 4.4.5; Windows packs what is larger than 2 GB with Deflate64.
_COMPRESSIONS = {6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 98: "PPMd"}
# Bits of APPNOTE 4.4.4, and Info-ZIP's Unicode path of 4.6.9.
_IS_UNICODE = 0x800
_IS_ENCRYPTED = 0x1
_UNICODE_PATH = 0x7075


def listed(
    archive: Path, limits: Limits, encoding: str | None, stack: ExitStack
) -> tuple[list[Item | Skipped], list[str]]:
    """The members of a zip, and what was guessed of their names.

    Raises:
        DataError: it holds more than the limits allow, or a name is not of this encoding.
        Exception: whatever `zipfile` makes of damage.
    """
    count = Count(archive, limits)
    zipped = stack.enter_context(zipfile.ZipFile(archive))
    infos = zipped.infolist()
    # No part of the archive is two members' at once, which is how a small zip becomes very many files.
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        count.refuse("holds members that lie over each other")
    names, notes = _names(infos, archive, encoding)
    members, total = [], 0
    for info, name in zip(infos, names, strict=True):
        count.member(name)
        if not name.endswith("/"):
            found = member(name, info.file_size, _why_not(info), partial(_read, zipped, info))
            total += found.size if isinstance(found, Item) else 0
            count.reach(total)
            members.append(found)
    return members, notes


def _why_not(info: zipfile.ZipInfo) -> str | None:
    # The upper half holds the type and the rights of a file on Unix.
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "a link"
    if info.flag_bits & _IS_ENCRYPTED:
        return "encrypted"
    if info.compress_type not in _READ:
        name = _COMPRESSIONS.get(info.compress_type, f"method {info.compress_type}")
        return f"packed with {name}, which can't be read here: unpack it and import the folder"
    return None


def _names(infos: list[zipfile.ZipInfo], archive: Path, encoding: str | None) -> tuple[list[str], list[str]]:
    """Names as the archive marks them, else as it is told, else as UTF-8, else as zip's first authors wrote them."""
    told = [_told_name(info) for info in infos]
    raw = [
        # `zipfile` has read them as cp437, which has a letter for every byte: this gives them back.
        info.orig_filename.encode("cp437").split(b"\0")[0] if name is None else b""
        for info, name in zip(infos, told, strict=True)
    ]
    unsure = [name for name in raw if not name.isascii()]
    # An archive has one writer, so one name that is no UTF-8 speaks against all.
    guess = encoding or ("utf-8" if all(map(_is_utf8, unsure)) else "cp437")
    try:
        names = [
            name.decode(guess) if known is None else known for name, known in zip(raw, told, strict=True)
        ]
    except UnicodeDecodeError as error:
        wrong = error.object.decode(errors="backslashreplace")
        raise DataError(f"{archive}: the name {wrong} is not {encoding}: try another `--encoding`") from error
    if not unsure or encoding:
        return names, []
    example = printable(shown(unsure[0].decode(guess)))
    note = f"{len(unsure)} names don't say how they are written: taken for {guess}, such as {example}"
    return names, [f"{note}; `--encoding` says otherwise, such as cp1252 or shift_jis"]


def _told_name(info: zipfile.ZipInfo) -> str | None:
    """The name where the archive says how it is written, by its flag or by Info-ZIP's Unicode path."""
    if info.flag_bits & _IS_UNICODE:
        return info.orig_filename.split("\0")[0]
    extra, raw = info.extra, info.orig_filename.encode("cp437")
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        # Its checksum is of the other name: a program that knows only that one may have renamed the member.
        if kind == _UNICODE_PATH and length > 5 and struct.unpack_from("<BI", field) == (1, zlib.crc32(raw)):
            return field[5:].decode() if _is_utf8(field[5:]) else None
    return None


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with zipped.open(info) as file:
            # Never more than was announced, whatever the compressed bytes would swell to.
            return file.read(MAX_BYTES)
    except DAMAGE as error:
        # The name stands beside it already, and would make every reason another one.
        raise ValueError(f"damaged in the archive: {str(error).split(' for file ')[0]}") from error
