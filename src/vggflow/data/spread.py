"""Work on many images: on the cluster where `RAY_ADDRESS` names one, else by the processes of this machine.

A node needs neither the data folder nor a shared disk. It reads an image from the path where the same file lies there,
else from the DVC remote by its hash; what DVC does not have, as images that were brought in since, is sent.
"""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from socket import gethostname
from typing import Any, TypeVar, cast

from vggflow import cluster, cluster_workers
from vggflow.data import images, parallel
from vggflow.data.places import Place
from vggflow.data.tracked import Tracked, Version
from vggflow.errors import VggflowError
from vggflow.git_and_dvc import remote_contents
from vggflow.git_and_dvc.remote_contents import Reader, Remote, Wanted

# A piece of work. Of 32, as for a process of this machine, Ray would take a quarter of the CPU seconds.
ITEMS = 4 * parallel.BATCH
# The file in which images lie that were brought to a node.
TOGETHER = "images"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread:
    """Work on images of one data folder; what DVC says of the folder tells a cluster where else they are.

    DVC is asked once, when the cluster is first used: a file that changes after that is refused or sent, not mistaken.
    """

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder

    @cached_property
    def tracked(self) -> Tracked:
        """What DVC has of the folder."""
        return Tracked(self._folder)

    def for_each(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        crashed: Callable[[Item], Result] | None = None,
    ) -> Generator[Result]:
        """The results in the order of the items, as they come; see `parallel.for_each`.

        Args:
            items: with a `Place` for each image that they name.
        """
        if not cluster.is_named() or len(items) < parallel.FEW:
            yield from parallel.for_each(function, items, crashed=crashed)
            return
        work = Work(cluster.name_of(function), cluster.name_of(crashed) if crashed else None)
        batches = (list(items[start : start + ITEMS]) for start in range(0, len(items), ITEMS))
        pieces = (Piece(batch, needs(batch, self.tracked)) for batch in batches)
        with closing(
            cluster_workers.for_each(ImageNode, work, pieces, partial(settle, work), one_per="core")
        ) as answers:
            for results in answers:
                yield from results


@dataclass(frozen=True)
class Needs:
    """What a node has to know to find the bytes of some images.

    Attributes:
        versions: Of the files in which they are, by path.
        remote: Where else they are.
        sent: Those that neither of these gives, by place.
    """

    versions: Mapping[str, Version]
    remote: Remote | None
    sent: Mapping[Place, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What is to be done with items, and with one that takes a process down: functions of modules, by name."""

    function: str
    crashed: str | None

    def of(self, team: parallel.Team, items: list[Any]) -> list[Any]:
        """The results of items."""
        crashed = cluster.named(self.crashed) if self.crashed else None
        found = parallel.results(team, items, crashed)
        return [bytes(each) if isinstance(each, memoryview) else each for each in found]

    def team(self) -> parallel.Team:
        """A process that does it."""
        return parallel.Team(cluster.named(self.function), 1)


@dataclass(frozen=True)
class Piece:
    """Items for a node."""

    items: list[Any]
    needs: Needs


@dataclass(frozen=True)
class Lacking:
    """The answer of a node that can't come by some bytes."""

    places: tuple[Place, ...]


def needs(items: Sequence[Any], tracked: Tracked) -> Needs:
    """What a node has to know to read what these items name."""
    files = {place.file for place in places(items)}
    return Needs({file: tracked.version(file) for file in files}, tracked.remote)


def settle(work: Work, piece: Piece, found: Any) -> Any:
    """The results of a piece; the piece with the bytes that a node lacked, where it lacked some."""
    if not isinstance(found, Lacking):
        return found
    try:
        return cluster.Again(replace(piece, needs=with_bytes(piece.needs, found)))
    except OSError:
        # What can't be read here either is told as it is told without a cluster.
        with closing(work.team()) as team:
            return work.of(team, piece.items)


def with_bytes(before: Needs, lacking: Lacking) -> Needs:
    """The same with the bytes that a node lacked.

    Raises:
        OSError: some can't be read here either, or are too many to be sent.
    """
    if any(place.size_bytes() > images.MAX_BYTES for place in lacking.places):
        raise OSError("larger than what is read")
    return replace(before, sent={**before.sent, **{place: place.read() for place in lacking.places}})


class ImageNode:
    """What a core of a cluster does with pieces, in a process of its own: native code that crashes takes down no more.

    The images of one piece are fetched while the process works on those of another.
    """

    def __init__(self, work: Work) -> None:
        self._work, self._team = work, work.team()

    def work(self, piece: Piece) -> list[Any] | Lacking:
        """The results of a piece."""
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            moved = brought(places(piece.items), piece.needs, Path(folder))
            if isinstance(moved, Lacking):
                return moved
            return self._work.of(self._team, _moved(piece.items, moved) if moved else piece.items)

    def close(self) -> None:
        """Ends the process, which else ends with this one."""
        self._team.close()


def brought(wanted: Iterator[Place], needs: Needs, folder: Path) -> dict[Place, Place] | Lacking:
    """Where each image is on this node; what is on none of its disks is written into a file in `folder`.

    Raises:
        VggflowError: the remote can't be read, or there is no room here.
    """
    absent = [place for place in dict.fromkeys(wanted) if not _is_here(place, needs.versions[place.file])]
    if not absent:
        return {}
    found = dict(needs.sent)
    stored = [place for place in absent if place not in found and _is_stored(place, needs)]
    if stored:
        asked = [Wanted(needs.versions[place.file].md5, place.offset, place.size) for place in stored]
        read = _reader(tuple(sorted(cast("Remote", needs.remote).items()))).read(asked)
        found |= {place: content for place, content in zip(stored, read, strict=True) if content is not None}
    lacking = tuple(place for place in absent if place not in found)
    if lacking:
        return Lacking(lacking)
    try:
        return _written({place: found[place] for place in absent}, folder)
    except OSError as error:
        raise VggflowError(
            f"images can't be written to {folder} on {gethostname()}: {error.strerror}"
        ) from error


def _is_stored(place: Place, needs: Needs) -> bool:
    version = needs.versions[place.file]
    size = version.size if place.size is None else place.size
    return needs.remote is not None and bool(version.md5) and size <= images.MAX_BYTES


def places(items: Any) -> Iterator[Place]:
    """The places that items name, wherever in them."""
    if isinstance(items, Place):
        yield items
    elif isinstance(items, list | tuple):
        for item in items:
            yield from places(item)


def _moved(items: Any, to: Mapping[Place, Place]) -> Any:
    """The same items, with other places."""
    if isinstance(items, Place):
        return to.get(items, items)
    return [_moved(item, to) for item in items] if isinstance(items, list | tuple) else items


def _is_here(place: Place, version: Version) -> bool:
    """Whether this node has the same file under that path: of the same size and time, or the same bytes."""
    try:
        status = os.stat(place.file)  # noqa: PTH116 (a `Path` for each image takes as long again)
        if status.st_size != version.size:
            return False
        if status.st_mtime_ns == version.mtime_ns:
            return os.access(place.file, os.R_OK)
        # Another copy of it, as of a workspace of the node's own. A shard would have to be read whole.
        return bool(version.md5) and place.size is None and remote_contents.md5(place.read()) == version.md5
    except OSError:
        return False


def _written(contents: Mapping[Place, bytes], folder: Path) -> dict[Place, Place]:
    """Where the bytes are, one after the other in one file, as in a shard."""
    path, moved = folder / TOGETHER, {}
    with path.open("wb") as file:
        for place, content in contents.items():
            moved[place] = Place(str(path), str(place), file.tell(), len(content))
            file.write(content)
    return moved


def as_before(told: str, folder: Path) -> str:
    """What was told of an image that lies in `folder` since it was brought, by the place that it came from."""
    return told.replace(f"{folder / TOGETHER}: ", "")


# A connection for all pieces that a worker of the cluster gets.
@cache
def _reader(remote: tuple[tuple[str, Any], ...]) -> Reader:
    return Reader(dict(remote))
