"""How a source's folders say what split and class an image has.

Known shapes, also below folders that hold everything else (`PetImages/Cat/0.jpg`):

    {train,valid,test}/<class>/…                          splits, by any of their usual names
    training_set/<class>/… test_set/<class>/… single_prediction/…   likewise; the last is unlabelled
    train/cat.0.jpg … test/1.jpg …                        Kaggle: the class stands in the name, numbers have
    none <class>/…                                             no splits unknown/…
    unlabelled
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from vggflow.data.layout import UNLABELLED
from vggflow.data.sources import Skipped
from vggflow.data.splitting import Shares
from vggflow.errors import DataError

_SPLITS = {
    "train": "train", "training": "train", "training_set": "train", "train_set": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "validation_set": "valid", "valid_set": "valid",
    "test": "test", "testing": "test", "test_set": "test", "test1": "test",
}  # fmt: skip
_UNLABELLED = {"single_prediction"}
AS_THEY_ARE = "splits as they are"
_CLASS_IN_NAME = re.compile(r"(?P<name>[^\W\d](?:.*[^\W\d_])?)[._\- (]*\d+\)?")


@dataclass(frozen=True)
class Place:
    """Where an image belongs; `split` is null where its content decides."""

    split: str | None
    class_name: str
    rest: PurePosixPath


@dataclass(frozen=True)
class Shape:
    """A recognised source.

    Attributes:
        depth: how many folders hold everything else.
        has_splits: whether the next folder is a split; else everything is divided by content.
        foldered: the splits that have class folders, where a class is never read from a file's name.
        shares: how train is divided; null where it stays as it is.
        description: for people.
    """

    depth: int
    has_splits: bool
    foldered: frozenset[str | None]
    shares: Shares | None
    description: str

    def place(self, path: PurePosixPath) -> Place | Skipped:
        """Where an image of this source belongs."""
        parts = _below(path, self.depth)
        if not self.has_splits:
            return self._in_class(None, parts, path)
        if parts[0].lower() in _UNLABELLED:
            return Place("test", UNLABELLED, PurePosixPath(*parts[1:]))
        split = _SPLITS.get(parts[0].lower())
        if split is None or len(parts) < 2:
            return Skipped(str(path), "not in a folder train, valid or test")
        return self._in_class(split, parts[1:], path)

    def _in_class(self, split: str | None, parts: Sequence[str], path: PurePosixPath) -> Place | Skipped:
        """The class is the folder; where there are no class folders, it stands in the name."""
        if len(parts) == 1 and split in self.foldered:
            return Skipped(str(path), "not in a class folder")
        name = _class_of(parts)
        if name is None:
            return Skipped(str(path), "not in a class folder, and no class in its name")
        if name == UNLABELLED and split in ("train", "valid"):
            return Skipped(str(path), "without a class, in a split to learn from")
        if name == UNLABELLED:
            split = "test"
        elif split == "train" and self.shares:
            split = None
        return Place(split, name, PurePosixPath(*(parts[1:] or parts)))


def recognise(paths: Collection[PurePosixPath], shares: Shares) -> Shape:
    """Tells the shape of a source from the paths of its images; train is divided where it alone has labels.

    Raises:
        DataError: there are no images.
    """
    if not paths:
        raise DataError("no images to import: expected {train,valid,test}/<class>/… or <class>/…")
    depth = _common_depth(paths)
    below = [_below(path, depth) for path in paths]
    tops = {parts[0].lower() for parts in below if len(parts) > 1}
    splits = {_SPLITS[top] for top in tops if top in _SPLITS}
    # A class may be called train, beside car and plane: two split names, or nothing else, make splits.
    if not splits or (len(splits) == 1 and not tops <= {*_SPLITS, *_UNLABELLED}):
        foldered = frozenset[str | None]({None} if tops else ())
        return Shape(depth, False, foldered, shares, "no splits: divided by content")
    foldered = frozenset(_SPLITS.get(parts[0].lower()) for parts in below if len(parts) > 2)
    if "train" not in splits or "valid" in splits:
        return Shape(depth, True, foldered, None, AS_THEY_ARE)
    shape = Shape(depth, True, foldered, shares, "labels only in train: divided by content")
    return _with_test(shape) if any(_is_labelled_test(parts) for parts in below) else shape


def beside(shape: Shape, there: Collection[str]) -> Shape:
    """The shape where these splits hold images of other origin: its train then is train, as it says."""
    if not shape.has_splits or shape.shares is None:
        return shape
    if "valid" in there:
        return replace(shape, shares=None, description=AS_THEY_ARE)
    return _with_test(shape) if "test" in there else shape


def _with_test(shape: Shape) -> Shape:
    shares = replace(shape.shares or Shares(), test=0.0)
    return replace(shape, shares=shares, description="no valid split: taken from train by content")


def _below(path: PurePosixPath, depth: int) -> tuple[str, ...]:
    """What follows the common folders; a `train` right below `train`, as unpacking makes it, counts once."""
    parts = path.parts[depth:]
    while len(parts) > 2 and parts[0].lower() == parts[1].lower() and parts[0].lower() in _SPLITS:
        parts = parts[1:]
    return parts


def _common_depth(paths: Collection[PurePosixPath]) -> int:
    """How many folders hold everything else, without the last two levels, which may be class and file."""
    depth = 0
    shortest = min(len(path.parts) for path in paths)
    while depth < shortest - 2:
        tops = {path.parts[depth] for path in paths}
        if len(tops) > 1 or tops.pop().lower() in {*_SPLITS, *_UNLABELLED}:
            break
        depth += 1
    return depth


def _is_labelled_test(parts: Sequence[str]) -> bool:
    is_test = len(parts) > 1 and _SPLITS.get(parts[0].lower()) == "test"
    return is_test and _class_of(parts[1:]) not in (None, UNLABELLED)


def _class_of(parts: Sequence[str]) -> str | None:
    return parts[0] if len(parts) > 1 else _class_in(PurePosixPath(parts[0]).stem)


def _class_in(stem: str) -> str | None:
    """The class that a flat file name tells: `cat.0` is a cat, `17` is unlabelled."""
    if stem.isdigit():
        return UNLABELLED
    match = _CLASS_IN_NAME.fullmatch(stem)
    return match["name"] if match else None
