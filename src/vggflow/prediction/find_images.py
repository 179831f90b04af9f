"""The images that a person means by naming files and folders."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vggflow.data.images import EXTENSIONS
from vggflow.data.places import Place, shards
from vggflow.errors import DataError


def find_images(places: Sequence[Path]) -> list[Path | Place]:
    """The named files, and all images below the named folders, in natural order and each once.

    Below the data folder of a workspace, images in shards are found as the files that they would be.

    A file that is named is taken whatever its name; in folders, hidden files and names that no readable
    format goes by are passed over.

    Raises:
        DataError: a place does not exist, or there is no image at all.
    """
    found: dict[Path, Path | Place] = {}
    for place in places:
        if place.is_file():
            found.setdefault(place, place)
        elif not place.exists() and not packed(place):
            raise DataError(f"{place} does not exist: name image files or folders that hold images")
        else:
            below: dict[Path, Path | Place] = {**packed(place)}
            below |= {path: path for path in _below(place)}
            found |= {path: below[path] for path in natural_order(below) if path not in found}
    if not found:
        raise DataError(f"no images in {', '.join(map(str, places))}: name image files or folders of images")
    return list(found.values())


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sorts paths as people count: `2.jpg` before `10.jpg`."""
    return sorted(paths, key=lambda path: [natural_key(part) for part in path.parts])


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key that compares runs of digits as numbers; the name itself settles `1` against `01`."""
    # "0" to "9" only: \d also matches digits such as "²", which int() refuses.
    parts = re.split(r"([0-9]+)", name)
    # A split by a group puts the digits in odd places. Each key begins with its kind, since Python
    # can't compare a number with a text.
    keys = [(1, int(part), "") if index % 2 else (0, 0, part) for index, part in enumerate(parts)]
    return [*keys, (2, 0, name)]


def exists(place: Path) -> bool:
    """Whether there is such a file or folder, or any image of that path or below it in a shard."""
    return os.path.lexists(place) or bool(packed(place))


def packed(place: Path) -> dict[Path, Place]:
    """The images in shards at or below a path, by the path of the file that each would be."""
    for data in (place, *list(place.parents)[:3]):
        if shards(data):
            from vggflow.data.contents import Contents

            contents = Contents(data)
            wanted = (path for path in contents.members["path"] if Path(path).suffix.lower() in EXTENSIONS)
            here = (path for path in wanted if (data / path).is_relative_to(place))
            return {data / path: contents.place(path) for path in here}
    return {}


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        # Below `folder` only: who names a folder within a hidden one means it.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in EXTENSIONS and not hidden and path.is_file():
            yield path
