"""What is wrong with copies: where they lie and what they are labelled decides."""

import time

import pandas as pd
import pytest

from vggflow.data import schema
from vggflow.data.layout import ClassFolder
from vggflow.gate.exclude import exclude
from vggflow.gate.tables import COPY_COLUMNS, class_table, image_table
from vggflow.settings import ValidateSettings

FOLDERS = [ClassFolder(split, name) for split in ("train", "valid", "test") for name in ("cats", "dogs")]


def manifest(*rows: tuple[str, str, int | None]) -> pd.DataFrame:
    """Images by path, bytes (a letter stands for them) and group of near copies."""
    return schema.table(
        {
            "path": path,
            "split": path.split("/")[0],
            "class_name": path.split("/")[1],
            "kind": "image",
            "bytes": 1,
            "width": 100,
            "height": 100,
            "sha256": content,
            "near_group": group,
            "extension_fits": True,
        }
        for path, content, group in rows
    )


def told(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    found = image_table(table).set_index("path")
    return {name: found[name].dropna().to_dict() for name in COPY_COLUMNS if found[name].notna().any()}


def test_the_same_bytes_in_one_class_and_split_are_exact_duplicates():
    table = manifest(("train/cats/a", "A", None), ("train/cats/b", "A", None), ("train/cats/c", "C", None))

    assert told(table) == {"exact_duplicates": {"train/cats/b": "train/cats/a"}}


def test_the_same_bytes_in_two_splits_are_leakage_on_both_sides():
    table = manifest(("train/cats/a", "A", None), ("valid/cats/b", "A", None), ("test/cats/c", "A", None))

    assert told(table)["leakage"] == {
        "train/cats/a": "valid/cats/b",
        "valid/cats/b": "train/cats/a",
        "test/cats/c": "train/cats/a",
    }


def test_near_copies_in_one_class_and_split_are_near_duplicates():
    table = manifest(("train/cats/a", "A", 0), ("train/cats/b", "B", 0), ("train/cats/c", "B", 0))

    assert told(table) == {
        "near_duplicates": {"train/cats/b": "train/cats/a", "train/cats/c": "train/cats/a"},
        "exact_duplicates": {"train/cats/c": "train/cats/b"},
    }


def test_an_exact_copy_of_the_first_is_no_near_duplicate_as_well():
    table = manifest(("train/cats/a", "A", 0), ("train/cats/b", "A", 0), ("train/cats/c", "B", 0))

    assert told(table)["near_duplicates"] == {"train/cats/c": "train/cats/a"}


def test_near_copies_in_two_splits_are_near_leakage():
    table = manifest(("train/cats/a", "A", 0), ("test/cats/b", "B", 0), ("test/cats/c", "C", 1))

    assert told(table) == {
        "near_leakage": {"train/cats/a": "test/cats/b", "test/cats/b": "train/cats/a"},
    }


def test_a_near_copy_is_named_by_a_file_of_other_bytes():
    table = manifest(("train/cats/a", "A", 0), ("test/cats/b", "A", 0), ("test/cats/c", "B", 0))

    assert told(table)["near_leakage"] == {"train/cats/a": "test/cats/c", "test/cats/c": "train/cats/a"}
    assert told(table)["leakage"] == {"train/cats/a": "test/cats/b", "test/cats/b": "train/cats/a"}


@pytest.mark.parametrize(("other", "group"), [("A", None), ("B", 0)])
def test_copies_with_other_labels_are_label_conflicts_and_no_duplicates(other, group):
    table = manifest(("train/cats/a", "A", group), ("train/dogs/b", other, group))

    assert told(table) == {
        "label_conflicts": {"train/cats/a": "train/dogs/b", "train/dogs/b": "train/cats/a"}
    }


def test_unlabelled_copies_are_no_leakage_but_told():
    table = manifest(("train/cats/a", "A", 0), ("test/unknown/1", "A", None), ("test/unknown/2", "B", 0))

    assert told(table) == {
        "known_unlabelled": {"test/unknown/1": "train/cats/a", "test/unknown/2": "train/cats/a"}
    }


def test_unreadable_files_are_copies_of_nothing():
    table = manifest(("train/cats/a", "A", None), ("test/cats/b", "A", None))
    table["error"] = "broken"

    assert told(table) == {}


def test_class_table_has_a_row_for_every_class_of_train_in_every_split():
    classes = class_table(manifest(("train/cats/a", "A", None)), FOLDERS[:3])

    assert classes["path"].tolist() == ["train/cats", "train/dogs", "valid/cats", "valid/dogs"]
    assert classes["images"].tolist() == [1, 0, 0, 0]


def test_label_shift_compares_the_shares_of_train():
    before = manifest(
        *((f"train/{name}/{n}", f"{name}{n}", None) for name in ("cats", "dogs") for n in range(10))
    )
    now = pd.concat([before, manifest(*((f"train/cats/{n}", f"more{n}", None) for n in range(20, 40)))])
    shift = class_table(now, FOLDERS, before).set_index("path")["shift"].dropna()

    assert shift.to_dict() == {"train/cats": pytest.approx(0.25), "train/dogs": pytest.approx(0.25)}


def test_a_class_that_the_reference_lacks_has_moved_by_its_share():
    before = manifest(("train/cats/a", "A", None))
    now = manifest(("train/cats/a", "A", None), ("train/dogs/b", "B", None))
    shift = class_table(now, FOLDERS, before).set_index("path")["shift"]

    assert shift["train/dogs"] == pytest.approx(0.5)


def reasons(table: pd.DataFrame, column: str) -> dict[str, str]:
    return table.set_index("path")[column].dropna().to_dict()


def test_a_class_of_the_reference_that_has_no_folder_any_more_has_vanished_and_is_not_missing_as_well():
    before = manifest(*((f"train/{name}/1", name, None) for name in ("cats", "dogs", "birds")))
    now = manifest(("train/cats/1", "cats", None), ("train/dogs/1", "dogs", None))
    table = class_table(now, [folder for folder in FOLDERS if folder.split == "train"], before)

    assert reasons(table, "vanished_class") == {"train/birds": "1 images there, no folder here"}
    assert reasons(table, "missing_class") == reasons(table, "different_classes") == {}
    assert table.set_index("path")["shift"]["train/birds"] == pytest.approx(1 / 3)


def test_without_a_reference_and_with_the_same_classes_nothing_has_vanished():
    table = manifest(("train/cats/a", "A", None), ("train/dogs/b", "B", None), ("valid/birds/c", "C", None))

    assert reasons(class_table(table, FOLDERS), "vanished_class") == {}
    assert reasons(class_table(table, FOLDERS, table), "vanished_class") == {}


def test_the_same_bytes_in_another_class_than_before_are_relabelled():
    before = manifest(
        ("train/cats/a", "A", None),
        ("train/cats/b", "B", None),
        ("train/dogs/b", "B", None),
        ("test/unknown/c", "C", None),
    )
    now = manifest(
        ("valid/dogs/a", "A", None), ("train/dogs/b", "B", None), ("train/cats/c", "C", None),
        ("train/cats/a", "A", None), ("test/unknown/a", "A", None), ("train/dogs/new", "N", None),
    )  # fmt: skip

    assert reasons(image_table(now, before), "relabelled") == {"valid/dogs/a": "cats there"}
    assert reasons(image_table(now), "relabelled") == {}


def left_out(table: pd.DataFrame, *kinds: str) -> dict[str, str]:
    settings = ValidateSettings(exclude=kinds)
    return exclude(table, settings).set_index("path")["excluded"].dropna().to_dict()


def test_of_exact_duplicates_one_stays_in_the_split_that_measures():
    table = manifest(("train/cats/a", "A", None), ("train/cats/b", "A", None), ("test/cats/c", "A", None))

    assert left_out(table, "exact_duplicates") == {
        "train/cats/a": "exact_duplicates",
        "train/cats/b": "exact_duplicates",
    }
    assert told(exclude(table, ValidateSettings(exclude=("exact_duplicates",)))) == {}


def test_of_leakage_all_stay_that_are_in_the_split_that_measures():
    table = manifest(
        ("train/cats/a", "A", None),
        ("valid/cats/b", "A", None),
        ("test/cats/c", "A", None),
        ("test/cats/d", "A", None),
    )

    assert left_out(table, "leakage") == {"train/cats/a": "leakage", "valid/cats/b": "leakage"}


def test_near_kinds_leave_out_near_copies():
    table = manifest(("train/cats/a", "A", 0), ("train/cats/b", "B", 0), ("test/cats/c", "C", 0))

    assert left_out(table, "near_leakage") == {"train/cats/a": "near_leakage", "train/cats/b": "near_leakage"}
    assert left_out(table, "near_duplicates").keys() == {"train/cats/a", "train/cats/b"}


def test_of_copies_with_other_labels_none_stays_and_duplicates_do_not_hide_them():
    table = manifest(("train/cats/a", "A", None), ("train/dogs/b", "A", None))

    assert left_out(table, "exact_duplicates") == {}
    assert left_out(table, "label_conflicts").keys() == {"train/cats/a", "train/dogs/b"}


def test_the_first_kind_that_is_named_counts_and_thresholds_decide():
    table = manifest(("train/cats/a", "A", None), ("train/cats/b", "A", None))
    table["brightness"] = [100.0, 5.0]
    table.loc[0, "error"] = "broken"

    assert left_out(table, "unreadable", "dark") == {"train/cats/a": "unreadable", "train/cats/b": "dark"}
    assert left_out(table, "exact_duplicates") == {}


def test_a_kind_that_is_switched_off_can_still_be_left_out():
    table = manifest(("train/cats/a", "A", None))
    table["brightness"] = 5.0
    settings = ValidateSettings(exclude=("dark",), severity={"dark": "off"})

    assert exclude(table, settings)["excluded"].tolist() == ["dark"]


def test_leaving_out_changes_no_other_column():
    table = manifest(("train/cats/a", "A", None), ("train/cats/b", "A", None))
    after = exclude(table, ValidateSettings(exclude=("exact_duplicates",)))

    pd.testing.assert_frame_equal(after.drop(columns="excluded"), table.drop(columns="excluded"))


def test_thousands_of_classes_that_train_lacks_take_no_longer_each():
    folders = [ClassFolder("train", f"class {number}") for number in range(3000)]
    folders += [ClassFolder("valid", f"Class {number}") for number in range(3000)]
    start = time.process_time()
    table = class_table(manifest(("train/class 0/a", "A", None)), folders)

    # Compared each with each they took 13 s, by their keys 0.3 s.
    assert time.process_time() - start < 5
    strange = table.set_index("path")["different_classes"]
    assert strange["valid/Class 7"] == "train has no class Class 7, only class 7, which differs in case"
    assert strange.notna().sum() == 3000


def test_what_no_rule_looks_at_is_not_carried_along():
    table = image_table(manifest(("train/cats/a", "A", None)))

    assert set(table.columns).isdisjoint({"perceptual_hash", *schema.CROP_HASHES, "bytes", "excluded"})
