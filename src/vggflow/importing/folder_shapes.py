"""How a source's folders say what split and class an image has.

Known shapes, also below folders that hold everything else (`PetImages/Cat/0.jpg`):

    {train,valid,test}/<class>/…                          splits, by any of their usual names
    training_set/<class>/… test_set/<class>/… single_prediction/…   likewise; the last is unlabelled
    train/cat.0.jpg … test/1.jpg …                        Kaggle: the class stands in the name, numbers have none
    <class>/…                                             no splits
    unknown/…                                             unlabelled

A shape must explain nearly all images. Else nothing is imported, and a person is told what was seen.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from vggflow.data import names
from vggflow.data.layout import UNLABELLED
from vggflow.data.names import printable
from vggflow.errors import DataError
from vggflow.importing import flat_names
from vggflow.importing.flat_names import is_nearly_all
from vggflow.importing.sources import Skipped, skipped
from vggflow.importing.splitting import Shares

ClassFolder = Literal["first", "last"]
Below = tuple[str, ...]

_SPLITS = {
    "train": "train", "training": "train", "training_set": "train", "train_set": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "validation_set": "valid", "valid_set": "valid",
    "test": "test", "testing": "test", "test_set": "test", "test1": "test",
}  # fmt: skip
_UNLABELLED = {"single_prediction"}
AS_THEY_ARE = "splits as they are"
_EXPECTED = (
    "expected {train,valid,test}/<class>/… or <class>/…: arrange them so, or name their classes in a table "
    "with --labels"
)
_NAMED = 4


@dataclass(frozen=True)
class Place:
    """Where an image belongs; `split` is null where its content decides."""

    split: str | None
    class_name: str
    rest: PurePosixPath


@dataclass(frozen=True)
class Ways:
    """What a person said about how to read a source.

    Attributes:
        class_folder: Which folder is the class where they lie in each other: the one below the split, or the
            one that holds the image; null where that need not be said.
        unlabelled: Whether images in a folder `unknown` have no label; else they are refused where that is
            not clear.
        known: The classes of the data that there are.
    """

    class_folder: ClassFolder | None = None
    unlabelled: bool = False
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shape:
    """A recognised source.

    Attributes:
        root: the folders that hold everything else.
        has_splits: whether the next folder is a split; else everything is divided by content.
        foldered: the splits that have class folders, where a class is never read from a file's name.
        shares: how train is divided; null where it stays as it is.
        description: for people.
        named: per split the classes that names of files may tell.
        ways: what a person said.
    """

    root: Below
    has_splits: bool
    foldered: frozenset[str | None]
    shares: Shares | None
    description: str
    named: "dict[str | None, frozenset[str]]"
    ways: Ways

    def place(self, path: PurePosixPath) -> Place | Skipped:
        """Where an image of this source belongs."""
        parts = _below(path, self.root)
        if parts is None:
            return skipped(str(path), "not in a class folder")
        if not self.has_splits:
            return self._in_class(None, parts, path)
        if parts[0].lower() in _UNLABELLED:
            return Place("test", UNLABELLED, PurePosixPath(*parts[1:]))
        split = _SPLITS.get(parts[0].lower())
        if split is None or len(parts) < 2:
            return skipped(str(path), "not in a folder train, valid or test")
        return self._in_class(split, parts[1:], path)

    def _in_class(self, split: str | None, parts: Below, path: PurePosixPath) -> Place | Skipped:
        """The class is the folder; where there are no class folders, it stands in the name."""
        if len(parts) == 1 and split in self.foldered:
            return skipped(str(path), "not in a class folder")
        name, rest = self._class_of(split, parts)
        if name is None:
            return skipped(str(path), "not in a class folder, and no class in its name")
        if name == UNLABELLED and split in ("train", "valid") and not self.ways.unlabelled:
            return skipped(str(path), "without a class, in a split to learn from")
        if name == UNLABELLED:
            split = "test"
        elif split == "train" and self.shares:
            split = None
        return Place(split, name, rest)

    def _class_of(self, split: str | None, parts: Below) -> tuple[str | None, PurePosixPath]:
        if len(parts) > 1:
            name, rest = _folder_of(parts, self.ways.class_folder)
            return UNLABELLED if names.key(name) == UNLABELLED else name, rest
        stem, rest = PurePosixPath(parts[0]).stem, PurePosixPath(parts[0])
        classes = self.named.get(split, frozenset())
        told = flat_names.class_in(stem)
        if told in classes:
            return told, rest
        numbered = stem.isdecimal() and split in (None, "test")
        return UNLABELLED if numbered or (split == "test" and not classes) else None, rest


def recognise(paths: Collection[PurePosixPath], shares: Shares, ways: Ways | None = None) -> Shape:
    """Tells the shape of a source from the paths of its images; train is divided where it alone has labels.

    Raises:
        DataError: there are no images, or no shape explains nearly all of them without a doubt.
    """
    if not paths:
        raise DataError("no images to import: expected {train,valid,test}/<class>/… or <class>/…")
    ways = ways or Ways()
    root = _common_folders(paths)
    below = [parts for path in paths if (parts := _below(path, root)) is not None]
    tops = {parts[0].lower() for parts in below if len(parts) > 1}
    splits = {_SPLITS[top] for top in tops if top in _SPLITS}
    # A class may be called train, beside car and plane: two split names, or nothing else, make splits.
    has_splits = bool(splits) and (len(splits) > 1 or tops <= {*_SPLITS, *_UNLABELLED})
    labelling = list(_labelling(below, has_splits))
    foldered = frozenset(split for split, parts in labelling if len(parts) > 1)
    named = _named(labelling, foldered, ways, paths)
    shape = Shape(root, has_splits, foldered, shares, "no splits: divided by content", named, ways)
    if has_splits:
        shape = _with_splits(shape, splits, labelling)
    _refuse_doubt(labelling, ways, paths)
    _refuse_unexplained(shape, paths)
    return shape


def beside(shape: Shape, there: Collection[str]) -> Shape:
    """The shape where these splits hold images of other origin: its train then is train, as it says."""
    if not shape.has_splits or shape.shares is None:
        return shape
    if "valid" in there:
        return replace(shape, shares=None, description=AS_THEY_ARE)
    return _with_test(shape) if "test" in there else shape


def split_of(path: PurePosixPath) -> str | None:
    """The split that one of an image's folders is called by."""
    return next((_SPLITS[part.lower()] for part in path.parts[:-1] if part.lower() in _SPLITS), None)


def seen(paths: Collection[PurePosixPath]) -> str:
    """How images lie, for people: so many so deep, in which folders."""
    groups: dict[int, list[PurePosixPath]] = {}
    for path in paths:
        groups.setdefault(len(path.parts) - 1, []).append(path)
    return "; ".join(_group(depth, group) for depth, group in sorted(groups.items()))


def _group(depth: int, paths: Sequence[PurePosixPath]) -> str:
    such = f"{len(paths)} such as {printable(str(paths[0]))}"
    if not depth:
        return such
    tops = sorted({path.parts[0] for path in paths})
    more = f" and {len(tops) - _NAMED} more" if len(tops) > _NAMED else ""
    return f"{such} in {', '.join(map(printable, tops[:_NAMED]))}{more}"


def _with_splits(shape: Shape, splits: set[str], labelling: "list[tuple[str | None, Below]]") -> Shape:
    if "train" not in splits or "valid" in splits:
        return replace(shape, shares=None, description=AS_THEY_ARE)
    shape = replace(shape, description="labels only in train: divided by content")
    return _with_test(shape) if any(_is_labelled_test(shape, *one) for one in labelling) else shape


def _with_test(shape: Shape) -> Shape:
    shares = replace(shape.shares or Shares(), test=0.0)
    return replace(shape, shares=shares, description="no valid split: taken from train by content")


def _below(path: PurePosixPath, root: Below) -> Below | None:
    """What follows the common folders, null beside them.

    A `train` right below `train`, as unpacking makes it, counts once.
    """
    if path.parts[: len(root)] != root:
        return None
    parts = path.parts[len(root) :]
    while len(parts) > 2 and parts[0].lower() == parts[1].lower() and parts[0].lower() in _SPLITS:
        parts = parts[1:]
    return parts


def _common_folders(paths: Collection[PurePosixPath]) -> Below:
    """The folders that hold everything else but a few loose files, above two levels that may be class and file."""
    root: Below = ()
    while True:
        within = [parts for path in paths if (parts := path.parts)[: len(root)] == root]
        deep = [parts for parts in within if len(parts) > len(root) + 2]
        tops = {parts[len(root)] for parts in within if len(parts) > len(root) + 1}
        if len(tops) != 1 or not is_nearly_all(len(deep), len(paths)):
            return root
        (top,) = tops
        if not deep or top.lower() in {*_SPLITS, *_UNLABELLED}:
            return root
        root = (*root, top)


def _labelling(below: Sequence[Below], has_splits: bool) -> "Iterator[tuple[str | None, Below]]":
    """For each image that a split or class may be told for: its split, and the folders and name that follow."""
    for parts in below:
        if not has_splits:
            yield None, parts
        elif len(parts) > 1 and parts[0].lower() in _SPLITS:
            yield _SPLITS[parts[0].lower()], parts[1:]


def _folder_of(parts: Below, which: ClassFolder | None) -> tuple[str, PurePosixPath]:
    """The class of an image in folders, and its path below that."""
    if which == "last":
        return parts[-2], PurePosixPath(*parts[:-2], parts[-1])
    return parts[0], PurePosixPath(*parts[1:])


def _named(
    labelling: "Sequence[tuple[str | None, Below]]",
    foldered: frozenset[str | None],
    ways: Ways,
    paths: Collection[PurePosixPath],
) -> "dict[str | None, frozenset[str]]":
    """The classes that names of files may tell in each split: in test, only those that there are otherwise."""
    known = {_folder_of(parts, ways.class_folder)[0] for _, parts in labelling if len(parts) > 1} | ways.known
    flat: dict[str | None, list[str]] = {}
    for split, parts in labelling:
        if len(parts) == 1 and split not in foldered:
            flat.setdefault(split, []).append(PurePosixPath(parts[0]).stem)
    told = {
        # Without splits, a name that is only a number belongs to an image without a label.
        split: flat_names.classes_in([stem for stem in stems if split or not stem.isdecimal()], known)
        for split, stems in flat.items()
        if split != "test"
    }
    classes = known.union(*told.values())
    stems = flat.get("test", [])
    labelled = flat_names.share_of(stems, classes)
    if labelled and not is_nearly_all(labelled, len(stems)):
        if not is_nearly_all(len(stems) - labelled, len(stems)):
            reason = f"{labelled} of {len(stems)} names in test tell a class of train, the others none"
            raise _refusal(reason, paths)
        labelled = 0
    return told | {"test": frozenset(classes) if labelled else frozenset()}


def _is_labelled_test(shape: Shape, split: str | None, parts: Below) -> bool:
    return split == "test" and shape._class_of(split, parts)[0] not in (None, UNLABELLED)


def _refuse_doubt(
    labelling: "Sequence[tuple[str | None, Below]]", ways: Ways, paths: Collection[PurePosixPath]
) -> None:
    """Where two levels of folders may be the classes, or `unknown` may be one."""
    folders = Counter((split, *parts[:-1]) for split, parts in labelling if len(parts) > 1)
    if ways.class_folder is None:
        _refuse_two_levels(folders, paths)
    if ways.unlabelled:
        return
    classes = Counter[tuple[str | None, str]]()
    for (split, *parts), count in folders.items():
        classes[split, _folder_of((*map(str, parts), ""), ways.class_folder)[0]] += count
    doubtful = {
        (split, name): count
        for (split, name), count in classes.items()
        if names.key(name) == UNLABELLED
        and (split in ("train", "valid") or (split is None and len(classes) > 1))
    }
    if doubtful:
        split, name = next(iter(doubtful))
        raise DataError(
            f"{sum(doubtful.values())} images lie in a folder {f'{split}/' if split else ''}{printable(name)}, which "
            f"is kept for images without a label: rename it, such as to `other`, where it is a class; "
            "--unlabelled takes them as images without a label"
        )


def _refuse_two_levels(folders: "Counter[tuple[str | None, ...]]", paths: Collection[PurePosixPath]) -> None:
    firsts = {str(parts[0]) for _, *parts in folders}
    holders: dict[str, set[str]] = {}
    images: Counter[str] = Counter()
    for (_, *parts), count in folders.items():
        # A folder within one of its own name, as unpacking makes it, is no second level.
        if len(parts) > 1 and parts[1] != parts[0]:
            holders.setdefault(str(parts[1]), set()).add(str(parts[0]))
            images[str(parts[1])] += count
    twice = {second for second, first in holders.items() if len(first) > 1}
    whole = folders.total()
    if holders.keys() & firsts or not is_nearly_all(whole - sum(images[name] for name in twice), whole):
        second = min(holders.keys() & firsts or twice)
        first = ", ".join(map(printable, sorted(holders[second])[:_NAMED]))
        raise _refusal(
            f"folders called {printable(second)} lie in {first}, so it can't be told which are the classes "
            "(--class-folder first or last says it)",
            paths,
        )


def _refuse_unexplained(shape: Shape, paths: Collection[PurePosixPath]) -> None:
    lost = [place for path in paths if isinstance(place := shape.place(path), Skipped)]
    if not is_nearly_all(len(paths) - len(lost), len(paths)):
        ((reason, count), *_) = Counter(skip.reason for skip in lost).most_common(1)
        example = next(skip.path for skip in lost if skip.reason == reason)
        raise _refusal(f"{count} of {len(paths)} images are {reason}, such as {printable(example)}", paths)


def _refusal(reason: str, paths: Collection[PurePosixPath]) -> DataError:
    return DataError(f"no shape fits these images: {reason}; seen: {seen(paths)}; {_EXPECTED}")
