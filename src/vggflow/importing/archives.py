"""Images in zip and tar archives, read member by member: nothing is unpacked to where its name says.

Members are only ever read as bytes and written by the importer under names of its own making, so a path that
leads out of the archive, a link or a device can do nothing; they are skipped, with their reason.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vggflow.data.layout import why
from vggflow.errors import DataError
from vggflow.importing import tars, zips
from vggflow.importing.items import DAMAGE
from vggflow.importing.sources import ARCHIVES, Found, Item, Limits, Skipped, found, skipped


@contextmanager
def opened(archive: Path, limits: Limits, encoding: str | None = None) -> Iterator[Found]:
    """The images of an archive, and what is left out.

    A tar is read to its end before anything is taken from it: it has no table of contents, so that is the only
    way to tell a whole one from one that was cut off.

    Raises:
        DataError: it is no zip or tar, damaged, holds more than the limits allow, or names that are not of this
            encoding.
    """
    with ExitStack() as stack:
        try:
            listed = _listed(archive, limits, encoding, stack)
        except DataError:  # which is a ValueError, as DAMAGE holds too
            raise
        except PermissionError as error:
            raise DataError(f"{archive} can't be read: {why(error)}") from error
        except MemoryError as error:
            raise DataError(
                f"{archive} needs more memory than there is: unpack it, import the folder"
            ) from error
        except DAMAGE as error:
            raise DataError(_no_archive(archive, error)) from error
        yield listed


def _no_archive(archive: Path, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    known = archive.suffix.lower() in ARCHIVES - {".zip", ".tar", ".tgz"}
    remedy = "unpack it and import the folder, or get it again" if known else "get it again"
    return f"{archive} is no zip or tar that can be read whole: {reason}; nothing was imported: {remedy}"


def _listed(archive: Path, limits: Limits, encoding: str | None, stack: ExitStack) -> Found:
    if zipfile.is_zipfile(archive) and not _begins_as_tar(archive):
        members, notes = zips.listed(archive, limits, encoding, stack)
    else:
        members, notes = tars.listed(archive, limits, encoding, stack), []
    apart = found(_apart(members))
    return Found(apart.items, apart.skipped, notes)


def _begins_as_tar(archive: Path) -> bool:
    """A zip is known by its end, which a tar may have of its last member: then that one alone would be imported."""
    with archive.open("rb") as file:
        try:
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        return True


def _apart(members: list[Item | Skipped]) -> Iterator[Item | Skipped]:
    """No file is a folder as well, which an archive can say and no disk can keep."""
    files = {member.path for member in members if isinstance(member, Item)}
    for member in members:
        if isinstance(member, Item) and not files.isdisjoint(member.path.parents):
            yield skipped(str(member.path), "below a file, not a folder")
        else:
            yield member
