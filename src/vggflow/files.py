"""Files that are whole or absent: written beside, flushed to disk, then renamed."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vggflow.errors import VggflowError

# EDQUOT is a quota of the user, EFBIG the largest file that is allowed.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path, *, private: bool = False, within: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well.

    Written in the folder `within`, on the same file system, where what a kill leaves must not lie beside `path`.

    Nobody but its owner can read a `private` one, at no moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = within or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic within one file system only; private from the start.
    # With the same suffix, by which Keras and NumPy tell a format.
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        # Else a power cut may leave the name with nothing behind it.
        _sync(beside)
        beside.chmod(0o600 if private else 0o644)
        beside.replace(path)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise VggflowError(
            f"no room on the disk for {path}: make some, then run the same command again"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    # The name lies in the folder, so a rename lasts only when that is on disk too.
    _sync(path.parent)


def remove_halves(path: Path) -> None:
    """Removes what killed processes left of a file that they were writing; nobody else may be writing it now."""
    for half in path.parent.glob(f".{path.name}.*"):
        half.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Writes UTF-8 text, whole or not at all; see `replacing`."""
    with replacing(path, private=private) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON for people and programs alike, whole or not at all."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """The text that `write_json` writes."""
    # NaN is no JSON: browsers and other readers refuse the whole file.
    return json.dumps(content, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Reads JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """Reads UTF-8 text with the line ends that it has in git, whatever a clone on this machine gave it."""
    return path.read_bytes().replace(b"\r\n", b"\n").decode("utf-8")


def text_sha256(path: Path) -> str:
    """The SHA-256 of a text, equal on machines whose git writes other line ends."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
