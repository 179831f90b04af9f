"""Tables as people and their programs write them: any usual separator, UTF-8 or with a byte order mark."""

import codecs
import csv
import io
from pathlib import Path

from vggflow.data.layout import why
from vggflow.errors import DataError

_SEPARATORS = ",;\t|"


def rows(path: Path, encoding: str | None, otherwise: str) -> list[list[str]]:
    """The rows of a table, empty ones left out; the first one holds the names of the columns.

    Args:
        path: The file.
        encoding: What it is written in; None for UTF-8 and what begins with a byte order mark.
        otherwise: What to do about another encoding, for the message.

    Raises:
        DataError: it can't be read, or is no table.
    """
    text = _text(path, encoding, otherwise)
    first = text.split("\n", 1)[0]
    # Told from the first row, since texts further down may be full of commas.
    separator = max(_SEPARATORS, key=first.count)
    try:
        found = [
            row
            # Without `strict` a quote that is never closed swallows all the rows behind it.
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            if any(row)
        ]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV: {error}") from error
    if len(found) < 2:
        raise DataError(
            f"{path} has {len(found)} rows: expected one with the columns' names, then one an image"
        )
    return [[name.strip() for name in found[0]], *found[1:]]


def _text(path: Path, encoding: str | None, otherwise: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {why(error)}") from error
    # A byte order mark is believed before the person: spreadsheets write UTF-16 and UTF-8 with one.
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {encoding or 'UTF-8'}: {otherwise}") from error
