"""What Great Expectations gets to see of files, and what its pages say: counts per class folder, and faulty files."""

import html
import re
from collections import Counter
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggflow.data import schema
from vggflow.errors import VggflowError
from vggflow.gate import parts
from vggflow.gate import suites as seen
from vggflow.gate import tables as findings
from vggflow.gate.great_expectations_suites import confirm
from vggflow.gate.rules import rules
from vggflow.gate.suites import COUNTS, FAULTY
from vggflow.gate.verdict import decide
from vggflow.settings import Expectation, ValidateSettings

ASKED = rules(ValidateSettings())
OF_FILES = [rule for rule in ASKED if rule.table == "images"]


def image(path: str, **found: object) -> dict[str, object]:
    """A row of the manifest, of an image with no fault but those that are told."""
    split, class_name, *_ = path.split("/") if path.count("/") > 1 else (path.split("/")[0], "")
    row = {"path": path, "split": split, "class_name": class_name, "kind": "image", "bytes": 1}
    good = {"width": 100, "height": 100, "sha256": path, "extension_fits": True, "brightness": 100.0}
    return row | good | {"contrast": 50.0, "sharpness": 500.0} | found


def many(*, classes: int = 2, each: int = 3) -> list[dict[str, object]]:
    places = [
        (split, name, n) for split in ("train", "valid") for name in range(classes) for n in range(each)
    ]
    return [image(f"{split}/{name}/{n}.jpg") for split, name, n in places]


def confirmed(manifest, docs, asked=ASKED):
    tables = findings.tables(manifest)
    verdict = decide(manifest, tables, asked)
    confirm(verdict, tables, asked, docs)
    return verdict


def text(docs, suite: str) -> str:
    """What a person reads on the page of a suite."""
    (page,) = (docs / "validations" / suite).rglob("*.html")
    shown = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page.read_text("utf-8"), flags=re.DOTALL)
    return html.unescape(" ".join(shown.split()))


FAULTS = st.fixed_dictionaries(
    {
        "error": st.sampled_from([None, None, "cut off"]),
        "brightness": st.sampled_from([None, 0.0, 19.999, 20.0, 255.0]),
        "width": st.sampled_from([None, 1, 7, 8, 100, 401]),
        "sha256": st.sampled_from(["one", "two", "three", "four"]),
        "near_group": st.sampled_from([None, 0, 1]),
        "excluded": st.sampled_from([None, None, "dark"]),
        "extension_fits": st.sampled_from([None, True, False]),
    }
)
PLACES = st.sampled_from(["train/cats", "train/猫", "train/dogs", "valid/cats", "test/unknown", "test", ""])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(PLACES, FAULTS), max_size=12))
def test_whatever_is_wrong_the_counts_are_those_of_the_verdict_in_each_class_folder(rows):
    paths = [f"{place}/{n}.jpg".lstrip("/") for n, (place, _) in enumerate(rows)]
    manifest = schema.table(image(path, **faults) for path, (_, faults) in zip(paths, rows, strict=True))
    tables = {"images": findings.image_table(manifest)}
    verdict = decide(manifest, tables, OF_FILES)
    counted, faulty = parts.count(tables["images"], OF_FILES)

    there = manifest[manifest["excluded"].isna()].set_index("path")
    folder = {path: "/".join(filter(None, there.loc[path, ["split", "class_name"]])) for path in there.index}
    named = {problem.expectation: Counter(map(folder.get, problem.paths)) for problem in verdict.problems}
    by_path = counted.assign(path=counted["path"].replace("outside of all splits", "")).set_index("path")
    for rule in OF_FILES:
        assert by_path[rule.name][by_path[rule.name] > 0].to_dict() == dict(named.get(rule.name, {}))
    assert by_path["files"].to_dict() == dict(Counter(folder.values()))
    assert set(faulty["path"]) == set(chain(*(problem.paths for problem in verdict.problems)))


def test_great_expectations_sees_class_folders_and_faulty_files_only():
    manifest = schema.table([*many(each=50), image("train/0/dark.jpg", brightness=1.0)])
    given_ = {suite.name: suite.table for suite in seen.suites(findings.tables(manifest), ASKED)}

    assert given_[COUNTS]["path"].tolist() == ["train/0", "train/1", "valid/0", "valid/1"]
    assert given_[COUNTS]["dark"].tolist() == [1, 0, 0, 0]
    assert given_[COUNTS]["files"].tolist() == [51, 50, 50, 50]
    assert given_[FAULTY].index.tolist() == ["train/0/dark.jpg"]


def test_pages_tell_shares_folders_and_faulty_files_with_their_reasons(tmp_path):
    rows = [
        *many(each=10),
        image("train/1/猫.jpg", error="cut off"),
        image("train/1/dark.jpg", brightness=1.5),
    ]
    confirmed(schema.table(rows), tmp_path / "docs")
    counts, faulty = text(tmp_path / "docs", COUNTS), text(tmp_path / "docs", FAULTY)

    assert "1 of 42 files (2.38%) that can't be decoded; expected 0" in counts
    assert "0 of 42 files blurred; expected 0" in counts
    assert "1 1 train/1 (12 files)" in counts
    assert "cut off 1 train/1/猫.jpg" in faulty
    assert "1.5 1 train/1/dark.jpg" in faulty
    assert "no file that breaks a rule; Index is the path of a file 2" in faulty


def test_pages_of_clean_data_say_that_no_file_is_faulty(tmp_path):
    assert confirmed(schema.table(many()), tmp_path / "docs").passed
    faulty = text(tmp_path / "docs", FAULTY)

    assert "Status: Succeeded" in faulty
    assert "no file that breaks a rule; Index is the path of a file 0" in faulty
    assert "nan" not in faulty.lower()


def test_files_that_are_faulty_in_a_thousand_class_folders_are_all_counted(tmp_path):
    rows = [*many(classes=500, each=1), *(image(f"train/{n}/cut.jpg", error="cut off") for n in range(400))]
    verdict = confirmed(schema.table(rows), tmp_path / "docs")

    assert len(verdict.problems[0].paths) == 400
    assert "400 of 1,400 files (28.57%) that can't be decoded" in text(tmp_path / "docs", COUNTS)


@pytest.mark.parametrize("off", ["images", "classes"])
def test_with_no_rule_of_files_or_of_classes_the_others_are_confirmed(tmp_path, off):
    manifest = schema.table([*many(), image("train/1/cut.jpg", error="cut off")])
    asked = [rule for rule in ASKED if rule.table != off]

    assert confirmed(manifest, tmp_path / "docs", asked).passed is (off == "images")


@pytest.mark.parametrize("excluded", [None, "dark"])
def test_one_image_is_enough_and_none_too(tmp_path, excluded):
    manifest = schema.table([image("train/0/1.jpg", excluded=excluded)])

    assert not confirmed(manifest, tmp_path / "docs").passed
    assert (tmp_path / "docs" / "index.html").exists()


def test_a_file_that_the_verdict_does_not_name_is_found(tmp_path):
    manifest = schema.table([*many(), image("train/1/cut.jpg", error="cut off")])
    tables = findings.tables(manifest)
    verdict = decide(manifest, tables, ASKED)
    tables["images"]["unreadable"] = pd.Series(np.nan, index=tables["images"].index, dtype="str")

    with pytest.raises(VggflowError, match="unreadable: Great Expectations counts 0 rows in files_per_class"):
        confirm(verdict, tables, ASKED, tmp_path / "docs")


def test_every_rule_of_files_is_asked_of_counts_and_of_faulty_files():
    manifest = schema.table([*many(), image("train/1/cut.jpg", error="cut off")])
    counts, faulty, classes = seen.suites(findings.tables(manifest), ASKED)

    assert [rule.name for rule in counts.asked] == [rule.name for rule in faulty.asked]
    assert {rule.name for rule in [*faulty.asked, *classes.asked]} == set(Expectation.__args__)
