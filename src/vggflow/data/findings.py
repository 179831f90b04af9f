"""What the expectations look at: the manifest with what is known only from all of its rows together."""

from collections.abc import Sequence

import pandas as pd

from vggflow.data.layout import UNLABELLED, ClassFolder


def image_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not excluded, with `shorter_side` and, where the same bytes lie twice, with what.

    `exact_duplicates` names the first such file of the same split, `leakage` those of other splits; both are
    null for a file that is the only one. Unlabelled images measure nothing, so they can't leak.
    """
    images = manifest[manifest["excluded"].isna()].reset_index(drop=True)
    images["shorter_side"] = images[["width", "height"]].min(axis=1)
    labelled = images[(images["class_name"] != UNLABELLED) & images["error"].isna()]
    images["exact_duplicates"] = _first_of_same_split(labelled).reindex(images.index)
    images["leakage"] = _other_splits(labelled).reindex(images.index)
    return images


def class_table(manifest: pd.DataFrame, folders: Sequence[ClassFolder]) -> pd.DataFrame:
    """One row per labelled split and class: `path`, `split`, `class_name`, `images` that can be learned from.

    Every class that train has a folder for has a row in each split, with 0 images where there are none.
    """
    labelled = [folder for folder in folders if (folder.split, folder.class_name) != ("test", UNLABELLED)]
    expected = [folder.class_name for folder in labelled if folder.split == "train"]
    splits = dict.fromkeys(folder.split for folder in labelled)
    wanted = dict.fromkeys([*labelled, *(ClassFolder(split, name) for split in splits for name in expected)])
    usable = manifest[manifest["error"].isna() & manifest["excluded"].isna()]
    counts = usable.groupby(["split", "class_name"]).size()
    rows = [
        {
            "path": str(folder),
            "split": folder.split,
            "class_name": folder.class_name,
            "images": int(counts.get((folder.split, folder.class_name), 0)),
        }
        for folder in sorted(wanted, key=str)
    ]
    return pd.DataFrame(rows, columns=["path", "split", "class_name", "images"])


def _first_of_same_split(images: pd.DataFrame) -> pd.Series:
    groups = images.groupby(["split", "sha256"])["path"]
    first = groups.transform("first")
    return ("same bytes as " + first)[images["path"] != first]


def _other_splits(images: pd.DataFrame) -> pd.Series:
    leaking = images[images.groupby("sha256")["split"].transform("nunique") > 1]
    paths = leaking.groupby("sha256")["path"].agg(list)
    reasons = {
        index: "same bytes as "
        + ", ".join(other for other in paths[sha] if not other.startswith(f"{split}/"))
        for index, sha, split in zip(leaking.index, leaking["sha256"], leaking["split"], strict=True)
    }
    return pd.Series(reasons, dtype="str")
