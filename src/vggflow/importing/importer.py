"""Images taken in one by one: each to where its bytes or its group are already, else to its place."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from vggflow.data.layout import UNLABELLED, why
from vggflow.errors import DataError, VggflowError
from vggflow.importing.already_there import ExistingImages, Name
from vggflow.importing.folder_shapes import Place
from vggflow.importing.sources import Item, skipped
from vggflow.importing.splitting import Shares, choose_split, group_of
from vggflow.importing.summary import Tally


def name_of(item: Item, place: Place) -> Name:
    """What an image is called whatever its split."""
    return Name(place.class_name, place.rest, item.size)


class Importer:
    """Takes images in one by one, each to where its bytes or its group are already, else to its place.

    Args:
        names: of all images that come; of copies among them each is taken, for the gate to judge.
        shares: how train is divided; null where each image's place tells its split.
    """

    def __init__(
        self, data_folder: Path, names: "Counter[Name]", there: ExistingImages, shares: Shares | None
    ) -> None:
        self._data_folder, self._names, self._there, self._shares = data_folder, names, there, shares
        # Only what has one name twice can meet itself.
        self._several = Counter(PurePosixPath(name.class_name, name.rest) for name in names.elements())
        self._taken: dict[PurePosixPath, bytes] = {}
        self._written: list[Path] = []

    def take(self, item: Item, place: Place, tally: Tally, temporary: Path | None) -> None:
        """Copies an image by way of the file `beside`; without one it only looks."""
        try:
            content = item.read()
        except (OSError, ValueError) as error:
            tally.skipped.append(skipped(str(item.path), why(error)))
            return
        name = name_of(item, place)
        alike = self._there.like(content, place.class_name)
        # A file that another image of this source is called by is that one, not this one.
        home = next((path for path in alike if self._is_of(name, path)), None)
        if home and place.class_name != UNLABELLED and self._stays(place, home):
            tally.count(home, copied=False)
            return
        split = place.split or self._split(place, content, alike)
        target = PurePosixPath(split, place.class_name, place.rest)
        tally.count(target, copied=self._copy(content, item, target, temporary))

    @contextmanager
    def taken_back_on_error(self) -> Iterator[None]:
        """What this import wrote goes again where an error follows: half of a delivery is nothing to learn from."""
        try:
            yield
        except DataError:
            for path in self._written:
                path.unlink(missing_ok=True)
            # Backwards, so that a folder comes after all that lie in it.
            for folder in sorted({parent for path in self._written for parent in path.parents}, reverse=True):
                if folder.is_relative_to(self._data_folder) and not any(folder.iterdir()):
                    folder.rmdir()
            raise

    def _stays(self, place: Place, home: PurePosixPath) -> bool:
        """Whether an image is the one that is there, rather than a copy that the source puts into another split.

        Such a copy is taken: the gate shows it, nobody hides it.
        """
        said = place.split or ("train" if self._shares is None else None)
        if said in (None, home.parts[0]):
            return True
        return place.split is None and place.rest == PurePosixPath(*home.parts[2:])

    def _is_of(self, name: Name, path: PurePosixPath) -> bool:
        other = name._replace(rest=PurePosixPath(*path.parts[2:]))
        return other == name or other not in self._names

    def _split(self, place: Place, content: bytes, alike: list[PurePosixPath]) -> str:
        if self._shares is None:
            return "train"
        if alike:
            return alike[0].parts[0]
        path = PurePosixPath(place.class_name, place.rest)
        group = group_of(path, self._shares.group)
        known = self._there.split_of_group(group) if group is not None else None
        return known or choose_split(path, content, self._shares)

    def _copy(self, content: bytes, item: Item, target: PurePosixPath, temporary: Path | None) -> bool:
        """Puts a file in place whole, or tells that it is there already."""
        path, digest = self._data_folder / target, hashlib.sha256(content).digest()
        try:
            # A dry run writes nothing, so it has to remember what it would have met.
            there = self._there.sha256(target) or self._taken.get(target)
            if there is None and temporary and not path.exists():
                _write(content, temporary, path)
                self._written.append(path)
        except OSError as error:
            raise VggflowError(
                f"{path} can't be written: {why(error)}; mend that and import again: it goes on from there"
            ) from error
        if there not in (None, digest) or path.is_dir():
            raise DataError(
                f"{path} is there already with other bytes than {item.path}; nothing is overwritten: "
                "remove or rename one of them"
            )
        if self._several[target.relative_to(target.parts[0])] > 1:
            self._taken[target] = digest
        return there is None


def _write(content: bytes, temporary: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        # Before the rename, or a power cut leaves a file of the right name with nothing in it.
        os.fsync(file.fileno())
    temporary.rename(path)
