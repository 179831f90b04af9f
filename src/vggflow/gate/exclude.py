"""Files that are left out of training by name, while they stay where they are."""

from typing import cast

import pandas as pd

from vggflow.data.layout import UNLABELLED
from vggflow.gate import tables
from vggflow.gate.rules import rules
from vggflow.settings import ValidateSettings

# Of copies in several splits the one in test stays, so that what a champion was measured on does not change.
_STAYS_FIRST = {"test": 0, "valid": 1, "train": 2}
# What `excluded` says of an image that a person left out.
EXCLUDED_BY_HAND = "exclude_images"
_COPIES = {"exact_duplicates": "sha256", "leakage": "sha256"} | dict.fromkeys(
    ("near_duplicates", "near_leakage"), "near_group"
)


def exclude(manifest: pd.DataFrame, settings: ValidateSettings) -> pd.DataFrame:
    """The manifest with `excluded` naming the kind of problem, for the kinds in `settings.exclude`; and why else.

    Images that `settings.exclude_images` names come first, so that a copy of them stays if it is another file's.

    Of copies with the same label one stays: of `exact_duplicates` and `near_duplicates` wherever they lie, of
    `leakage` and `near_leakage` all that are in the split of the one that stays. Of copies with different
    labels (`label_conflicts`) none stays, since nobody knows which label is right.
    """
    manifest = manifest.assign(excluded=pd.array([None] * len(manifest), dtype="str"))
    listed = manifest["sha256"].isin(settings.exclude_images)
    manifest["excluded"] = manifest["excluded"].mask(listed, EXCLUDED_BY_HAND)
    # Each kind sees what the ones before left over, so the first that finds a file is what `excluded` says.
    for kind in settings.exclude:
        wrong = _surplus(manifest, kind) if kind in _COPIES else _broken(manifest, settings, kind)
        manifest["excluded"] = manifest["excluded"].mask(manifest["path"].isin(wrong), kind)
    return manifest


def _broken(manifest: pd.DataFrame, settings: ValidateSettings, kind: str) -> "pd.Series[str]":
    # A rule that is switched off is no rule any more, and its files may be left out all the same.
    wanted = settings.model_copy(update={"severity": {**settings.severity, kind: "critical"}})
    rule = next(rule for rule in rules(wanted) if rule.name == kind)
    table = tables.image_table(manifest)
    return cast("pd.Series[str]", table.loc[rule.broken_by(table), "path"])


def _surplus(manifest: pd.DataFrame, kind: str) -> "pd.Series[str]":
    group = _COPIES[kind]
    usable = manifest["error"].isna() & manifest["excluded"].isna() & (manifest["class_name"] != UNLABELLED)
    images = manifest[usable & manifest[group].notna()]
    order = images["split"].map(_STAYS_FIRST)
    # Stable, so that within a split the first path stays.
    images = images.iloc[order.argsort(kind="stable")]
    groups = images.groupby([group, "class_name"], sort=False)
    if "leakage" in kind:
        return images.loc[images["split"] != groups["split"].transform("first"), "path"]
    return images.loc[groups.cumcount() > 0, "path"]
