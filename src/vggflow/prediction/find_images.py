"""The images that a person means by naming files and folders."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vggflow.data.images import EXTENSIONS
from vggflow.errors import DataError


def find_images(places: Sequence[Path]) -> list[Path]:
    """The named files, and all images below the named folders, in natural order and each once.

    A file that is named is taken whatever its name; in folders, hidden files and names that no readable
    format goes by are passed over.

    Raises:
        DataError: a place does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            found.update(dict.fromkeys(natural_order(_below(place))))
        elif place.exists():
            found[place] = None
        else:
            raise DataError(f"{place} does not exist: name image files or folders that hold images")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, places))}: name image files or folders of images")
    return list(found)


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


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        # Below `folder` only: who names a folder within a hidden one means it.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in EXTENSIONS and not hidden and path.is_file():
            yield path
