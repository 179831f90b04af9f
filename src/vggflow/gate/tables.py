"""What the expectations look at: the manifest with what is known only from all of its rows together."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vggflow.data import names
from vggflow.data.colours import MOST_OF_SENSORS
from vggflow.data.layout import SPLITS, UNLABELLED, ClassFolder

COPY_COLUMNS = [
    "exact_duplicates",
    "leakage",
    "near_leakage",
    "label_conflicts",
    "near_duplicates",
    "known_unlabelled",
]
NONE: Mapping[str, str] = {}
# What rules, reasons and comparisons of rows need of the manifest; the rest would be copied where files are left out.
_USED = [
    *("path", "split", "class_name", "kind", "width", "height", "format", "extension_fits", "used_bits"),
    *("brightness", "contrast", "sharpness", "sha256", "near_group", "error", "doubt", "oddity"),
]
_KIND_COLUMNS = {"image": "unreadable", "link": "links", "foreign": "foreign_files", "stray": "stray_files"}


def tables(
    manifest: pd.DataFrame,
    folders: Sequence[ClassFolder] | None = None,
    reference: pd.DataFrame | None = None,
    label_suspects: Mapping[str, str] = NONE,
) -> dict[str, pd.DataFrame]:
    """All of them, by the name that a rule's `table` has.

    Args:
        folders: the class folders that the layout saw, so that empty ones are noticed; without them only folders
            that hold a file are known.
        reference: the manifest whose classes and labels are compared with, such as the champion's.
        label_suspects: why the labels of images are in doubt, by their paths, the largest doubt first.
    """
    known = tuple(folders) if folders is not None else _folders_with_files(manifest)
    images = image_table(manifest, reference, label_suspects)
    return {"images": images, "classes": class_table(manifest, known, reference)}


def image_table(
    manifest: pd.DataFrame,
    reference: pd.DataFrame | None = None,
    label_suspects: Mapping[str, str] = NONE,
) -> pd.DataFrame:
    """The rows that are not excluded, with what is used of the manifest and a column for everything that is asked for.

    Columns named like an expectation are null in rows that meet it; in others they hold the reason, or for
    copies the path of the other one. The rest are numbers: `shorter_side` (px), `aspect_ratio` (1 or more),
    `size_ratio` (longer side to its median, 1 or more). What was `relabelled` is told from the reference.
    """
    images = _in_use(manifest)
    for kind, column in _KIND_COLUMNS.items():
        images[column] = images["error"].where(images["kind"] == kind)
    images["extension_mismatch"] = _extension_mismatch(images)
    images["doubtful"], images["odd_metadata"] = images["doubt"], images["oddity"]
    images["unused_bits"] = _unused_bits(images)
    # Of such a picture the cause is told, not that it looks like a bad photograph.
    told = images["unused_bits"].notna()
    for measure in ("brightness", "contrast", "sharpness"):
        images[measure] = images[measure].mask(told)
    images["relabelled"] = _relabelled(images, reference)
    suspects = images.loc[images["path"].isin(label_suspects.keys()), "path"]
    images["label_suspects"] = suspects.map(dict(label_suspects)).astype("str")
    ranks = {path: rank for rank, path in enumerate(label_suspects)}
    images["label_suspects_rank"] = suspects.map(ranks).astype("Float64")
    images["name_collisions"] = _name_collisions(images["path"])
    sides = images[["width", "height"]].astype("Float64")
    images["shorter_side"] = sides.min(axis=1)
    images["aspect_ratio"] = sides.max(axis=1) / sides.min(axis=1)
    relative = sides.max(axis=1) / sides.max(axis=1).median()
    images["size_ratio"] = relative.where(relative >= 1, 1 / relative)
    whole = images["error"].isna()
    return images.join(_copies(images.loc[whole, ["path", "split", "class_name", "sha256", "near_group"]]))


def _in_use(manifest: pd.DataFrame) -> pd.DataFrame:
    images, kept = manifest[_USED], manifest["excluded"].isna()
    # What stays whole is not copied.
    return (images if kept.all() else images[kept]).reset_index(drop=True)


def class_table(
    manifest: pd.DataFrame, folders: Sequence[ClassFolder], reference: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per labelled split and class, also for classes of train that another split lacks, and for those of
    the reference's train that are gone.

    `images` can be used; `images_if_any` is null instead of 0; `part_of_largest` compares the classes of train.
    With the reference manifest are compared, in each split for itself: `shift`, how far the share of a class moved,
    and `part_of_before`, the images to those of then. The rest is named like an expectation.
    """
    counts, before = _counts(manifest), _labelled_counts(reference)
    lost = _lost(folders, before)
    wanted = _sorted({*_wanted(folders), *lost})
    classes = pd.DataFrame([(str(folder), folder.split, folder.class_name) for folder in wanted])
    classes.columns = pd.Index(["path", "split", "class_name"])
    places = pd.MultiIndex.from_frame(classes[["split", "class_name"]])
    classes["images"] = counts.reindex(places, fill_value=0).to_numpy()
    classes["images_if_any"] = classes["images"].astype("Int64").where(classes["images"] > 0)
    classes["images_before"] = before.reindex(places).astype("Int64").to_numpy()
    _add_reasons(classes, folders)
    gone = classes["path"].isin([str(folder) for folder in lost])
    told = [f"{number} images there, no folder here" for number in classes["images_before"]]
    classes["vanished_class"] = pd.Series(told, index=classes.index, dtype="str").where(gone)
    # What vanished is told as that, and not as missing too.
    classes.loc[gone, "missing_class"] = None
    in_train = classes["split"] == "train"
    largest = max(int(classes.loc[in_train, "images"].max()), 1)
    classes["part_of_largest"] = (classes["images_if_any"] / largest).where(in_train)
    classes["part_of_before"] = classes["images_if_any"] / classes["images_before"]
    classes["shift"] = _shift(classes)
    return classes


def _lost(folders: Sequence[ClassFolder], before: "pd.Series[int]") -> set[ClassFolder]:
    """Classes that train had and has no more, and those of a split that is gone, of which nothing else tells."""
    here, trained = _trained(folders)
    then = {ClassFolder(str(split), str(name)) for split, name in before.index}
    of_train = {folder for folder in then if folder.split == "train" and folder.class_name not in trained}
    return of_train | {each for each in then if each.split not in here and each.class_name in trained}


def _trained(folders: Sequence[ClassFolder]) -> tuple[set[str], set[str]]:
    """The splits with labels, and the classes of train."""
    labelled = [folder for folder in folders if folder.class_name != UNLABELLED]
    splits = {folder.split for folder in labelled}
    return splits, {folder.class_name for folder in labelled if folder.split == "train"}


def _wanted(folders: Sequence[ClassFolder]) -> set[ClassFolder]:
    splits, trained = _trained(folders)
    labelled = [folder for folder in folders if folder.class_name != UNLABELLED]
    return {ClassFolder(split, name) for split in splits for name in trained}.union(labelled)


def _sorted(folders: set[ClassFolder]) -> list[ClassFolder]:
    return sorted(folders, key=lambda folder: (SPLITS.index(folder.split), folder.class_name))


def _labelled_counts(reference: pd.DataFrame | None) -> "pd.Series[int]":
    """Images per split and class in the reference."""
    if reference is None:
        return pd.Series(dtype="int64", index=pd.MultiIndex.from_arrays([[], []]))
    counts = _counts(reference)
    return counts[counts.index.get_level_values("class_name") != UNLABELLED]


def _counts(manifest: pd.DataFrame) -> pd.Series:
    usable = manifest[manifest["error"].isna() & manifest["excluded"].isna()]
    return usable.groupby(["split", "class_name"]).size()


def _add_reasons(classes: pd.DataFrame, folders: Sequence[ClassFolder]) -> None:
    trained = {folder.class_name for folder in folders if folder.split == "train"} - {UNLABELLED}
    # The last one stays, so the first by name is what is told.
    by_key = {names.key(name): name for name in sorted(trained, reverse=True)}
    known, twins_of = set(folders), _twins(folders)
    reasons: dict[str, list[str | None]] = {
        name: [] for name in ("missing_class", "different_classes", "too_few_classes", "case_collisions")
    }
    for row in classes.itertuples():
        folder = ClassFolder(str(row.split), str(row.class_name))
        reasons["case_collisions"].append(twins_of.get(folder))
        strange = folder in known and folder.class_name not in trained
        reasons["different_classes"].append(_unknown(folder, by_key) if strange else None)
        few = folder.split == "train" and len(trained) < 2
        reasons["too_few_classes"].append("the only class, expected at least 2" if few else None)
        there = "no readable image in it" if folder in known else "there is no such folder"
        reasons["missing_class"].append(None if row.images else there)
    for column, values in reasons.items():
        classes[column] = pd.array(values, dtype="str")


def _twins(folders: Sequence[ClassFolder]) -> dict[ClassFolder, str]:
    """What to say of folders that another machine or a person takes for one with others of their split."""
    alike: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        alike.setdefault((folder.split, names.key(folder.class_name)), []).append(folder.class_name)
    return {
        ClassFolder(
            split, name
        ): f"beside {', '.join(_told_apart(name, other) for other in group if other != name)}"
        for (split, _), group in alike.items()
        if len(group) > 1
        for name in group
    }


def _told_apart(name: str, other: str) -> str:
    """The other name; where it looks the same, with what makes it another one."""
    difference = names.difference(other, name)
    return other if difference == names.IN_CASE else f"{other!a}, which {difference}"


def _unknown(folder: ClassFolder, trained: Mapping[str, str]) -> str:
    """What to say of a class that train lacks, whose classes are given by their keys."""
    twin = trained.get(names.key(folder.class_name))
    hint = f", only {twin}, which {names.difference(twin, folder.class_name)}" if twin is not None else ""
    return f"train has no class {folder.class_name}{hint}"


def _shift(classes: pd.DataFrame) -> pd.Series:
    """How far the share of each class in its split moved; null in a split that is new or gone."""
    now, before = classes["images"].astype("Float64"), classes["images_before"].fillna(0).astype("Float64")
    both = [numbers.groupby(classes["split"]).transform("sum") for numbers in (now, before)]
    known = (both[0] > 0) & (both[1] > 0)
    return (now / both[0] - before / both[1]).abs().where(known)


def _extension_mismatch(images: pd.DataFrame) -> pd.Series:
    wrong = images["extension_fits"].eq(False).fillna(False).astype(bool)
    return "a " + images.loc[wrong, "format"] + " by its content"


def _name_collisions(paths: pd.Series) -> pd.Series:
    """The other file of the same folder where both are one on Windows or macOS."""
    # First by numbers: the keys of a million paths take 100 MB.
    numbers = np.fromiter((hash(_key(path)) for path in paths), np.int64, len(paths))
    some = paths[pd.Series(numbers, index=paths.index).duplicated(keep=False)]
    keys = some.map(_key)
    alike = some[keys.duplicated(keep=False)].groupby(keys).agg(list)
    others = {
        path: f"one file with {next(other for other in group if other != path)!a} on Windows and macOS"
        for group in alike
        for path in group
    }
    return some.map(others).astype("str")


def _key(path: str) -> str:
    return "/".join(map(names.key, path.split("/")))


def _unused_bits(images: pd.DataFrame) -> pd.Series:
    """Why pictures in 16 bits are nearly black: a sensor's 10 to 14 bits were stored as they are."""
    few = (images["used_bits"] <= MOST_OF_SENSORS).fillna(False).astype(bool)
    bits = images.loc[few, "used_bits"].astype(int)
    # The decoder keeps the upper 8 of 16 bits.
    steps = (2 ** (bits - 8).clip(lower=0)).astype(str)
    text = bits.astype(str) + " of 16 bits are used, which leaves " + steps + " of 256 steps of light"
    return text.astype("str")


def _relabelled(images: pd.DataFrame, reference: pd.DataFrame | None) -> pd.Series:
    """The class that the same bytes had in the reference, where it is another one and they had only one."""
    if reference is None:
        return pd.Series(None, index=images.index, dtype="str")
    usable = reference["error"].isna() & reference["sha256"].notna() & (reference["class_name"] != UNLABELLED)
    # First a row for each class of the same bytes, then none of bytes that had several.
    once = reference[usable].drop_duplicates(["sha256", "class_name"]).drop_duplicates("sha256", keep=False)
    before = images["sha256"].map(once.set_index("sha256")["class_name"])
    other = before.notna() & (before != images["class_name"]) & (images["class_name"] != UNLABELLED)
    return before[other & images["error"].isna()].astype("str") + " there"


def _copies(images: pd.DataFrame) -> pd.DataFrame:
    """For each image the path of the one that it is a copy of, by what is wrong with that."""
    labelled = images[images["class_name"] != UNLABELLED]
    unlabelled = images[images["class_name"] == UNLABELLED]
    alike = labelled[labelled["near_group"].notna()]
    columns = {
        "exact_duplicates": _later_in_same_class(labelled, "sha256"),
        "near_duplicates": _later_in_same_class(alike, "near_group"),
        "leakage": _counterpart(labelled, labelled, "sha256", "split"),
        "near_leakage": _counterpart(alike, alike, "near_group", "split"),
        "label_conflicts": _first_of(
            _counterpart(labelled, labelled, "sha256", "class_name"),
            _counterpart(alike, alike, "near_group", "class_name"),
        ),
        "known_unlabelled": _first_of(
            _counterpart(unlabelled, labelled, "sha256", "class_name"),
            _counterpart(unlabelled, alike, "near_group", "class_name"),
        ),
    }
    return pd.DataFrame({name: columns[name].reindex(images.index) for name in COPY_COLUMNS})


def _later_in_same_class(images: pd.DataFrame, group: str) -> pd.Series:
    """Names the first member of its group that is in the same split and class, for all but that one."""
    places = ["split", "class_name", group]
    # Those that are alone are no copies, and nearly all are.
    images = images[images.duplicated(places, keep=False)]
    same = images.groupby(places, sort=False)
    first, first_bytes = same["path"].transform("first"), same["sha256"].transform("first")
    later = images["path"] != first
    if group != "sha256":
        # Exact copies of the first are told as `exact_duplicates` already.
        later &= images["sha256"] != first_bytes
    return first[later]


def _counterpart(images: pd.DataFrame, others: pd.DataFrame, group: str, differing: str) -> pd.Series:
    """Names for each image the first of `others` in its group that differs in split or class.

    Near copies must differ in their bytes too. Two members of different bytes stand for each split or class,
    so the work grows with the number of images, not with its square.
    """
    shared = (
        others[group].isin(images[group]) if images is not others else others.duplicated(group, keep=False)
    )
    if not shared.any():
        return pd.Series(dtype="str")
    distinct = others[shared].drop_duplicates([group, differing, "sha256"])
    # Two, since the first may have the very bytes of the image that looks for a counterpart.
    few = distinct[distinct.groupby([group, differing]).cumcount() < 2]
    # `group` may be `sha256` itself, and a column is wanted once.
    keys = list(dict.fromkeys([group, differing, "sha256"]))
    rows = images.loc[images[group].isin(few[group]), keys].reset_index()
    pairs = rows.merge(few[[*keys, "path"]], on=group, suffixes=("", "_other"))
    real = pairs[differing] != pairs[f"{differing}_other"]
    if group != "sha256":
        real &= pairs["sha256"] != pairs["sha256_other"]
    return pairs[real].drop_duplicates("index").set_index("index")["path"]


def _first_of(one: pd.Series, other: pd.Series) -> pd.Series:
    return one.combine_first(other) if len(one) else other


def _folders_with_files(manifest: pd.DataFrame) -> tuple[ClassFolder, ...]:
    placed = manifest[manifest["kind"].isin(["image", "link"])][["split", "class_name"]].drop_duplicates()
    return tuple(ClassFolder(split, name) for split, name in placed.itertuples(index=False))
