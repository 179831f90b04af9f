"""What changed between two states of the data."""

import io
import json

import pandas as pd
from rich.console import Console

from vggflow.data import schema
from vggflow.data.changes import compare


def manifest(**files: str) -> pd.DataFrame:
    """Files of two classes by name and bytes: `train_cats_1="A"`."""
    return schema.table(
        {
            "path": name.replace("_", "/"),
            "split": name.split("_")[0],
            "class_name": name.split("_")[1],
            "bytes": 1,
            "sha256": content or None,
        }
        for name, content in files.items()
    )


def test_the_same_data_have_not_changed():
    table = manifest(train_cats_1="A", train_cats_2="A", valid_dogs_1="")
    changes = compare(table, table)

    assert not changes
    assert changes.message == "nothing changed"


def test_each_kind_of_change_is_told_apart():
    before = manifest(
        train_cats_1="A", train_cats_2="B", train_cats_3="C", train_cats_4="D", train_cats_5="E"
    )
    now = manifest(train_cats_1="A", train_cats_2="X", valid_cats_3="C", train_dogs_4="D", train_cats_6="F")
    changes = compare(before, now)

    assert changes.changed == ("train/cats/2",)
    assert changes.moved == (("train/cats/3", "valid/cats/3"),)
    assert changes.relabelled == (("train/cats/4", "train/dogs/4"),)
    assert changes.added == ("train/cats/6",)
    assert changes.removed == ("train/cats/5",)
    assert changes.message == "1 added, 1 removed, 1 changed, 1 moved, 1 relabelled"
    assert changes


def test_a_second_copy_is_added_and_not_moved():
    changes = compare(
        manifest(train_cats_1="A"), manifest(train_cats_1="A", train_cats_2="A", valid_cats_1="A")
    )

    assert changes.added == ("train/cats/2", "valid/cats/1")
    assert changes.moved == ()


def test_copies_that_move_together_are_matched_one_by_one():
    changes = compare(
        manifest(train_cats_1="A", train_cats_2="A"),
        manifest(valid_cats_1="A", valid_cats_2="A", valid_cats_3="A"),
    )

    assert changes.moved == (("train/cats/1", "valid/cats/1"), ("train/cats/2", "valid/cats/2"))
    assert changes.added == ("valid/cats/3",)


def test_what_is_left_out_and_taken_back_is_told():
    table = manifest(train_cats_1="A", train_cats_2="B")
    without = table.assign(excluded=["dark", None])

    assert compare(table, without).excluded == ("train/cats/1",)
    assert compare(without, table).readmitted == ("train/cats/1",)


def test_counts_are_of_images_that_can_be_learned_from():
    before, now = manifest(train_cats_1="A", train_dogs_1="B"), manifest(train_cats_1="A", train_cats_2="C")

    assert compare(before, now).counts == {"train": {"cats": (1, 2), "dogs": (1, 0)}}
    assert compare(before, now.assign(error="broken")).counts["train"]["cats"] == (1, 0)


def test_unreadable_files_are_not_taken_for_each_other():
    changes = compare(manifest(train_cats_1=""), manifest(train_cats_2=""))

    assert (changes.added, changes.removed) == (("train/cats/2",), ("train/cats/1",))


def test_no_data_before_means_that_everything_is_new():
    assert compare(manifest(), manifest(train_cats_1="A")).added == ("train/cats/1",)
    assert compare(manifest(train_cats_1="A"), manifest()).removed == ("train/cats/1",)


def test_changes_are_shown_as_a_table_and_as_json():
    now = manifest(**{f"train_cats_{number}": str(number) for number in range(12)})
    changes = compare(manifest(train_cats_0="0"), now)
    console = Console(width=100, file=io.StringIO())
    console.print(changes.to_table())
    shown = console.file.getvalue()

    assert "1 → 12" in shown
    assert "added: train/cats/1\n" in shown
    assert "added: … and 6 more" in shown
    assert json.loads(json.dumps(changes.to_dict()))["counts"] == {"train": {"cats": [1, 12]}}
