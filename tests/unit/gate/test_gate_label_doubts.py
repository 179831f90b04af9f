"""`label_suspects`: what the last audit said of labels that are still there, a warning at most."""

import html
import io
import json

import pandas as pd
import pytest
from made_pictures import grow, jpeg
from rich.console import Console

from vggflow.data import manifest as manifests
from vggflow.files import sha256
from vggflow.gate.judge import judge
from vggflow.gate.label_doubts import doubts
from vggflow.gate.report import write_report
from vggflow.settings import ValidateSettings

PLAIN = ValidateSettings()


def audited(data, wrong=(), classes=("dogs", "cats")):
    """What an audit that saw all labelled images would say: each is right, but those that are named are not."""
    rows = []
    for path in sorted(data.glob("*/*/*.jpg")):
        if path.parent.name == "unknown":
            continue
        name = str(path.relative_to(data))
        suggested = next(each for each in classes if each != path.parent.name) if name in wrong else None
        rows.append(
            (sha256(path), path.parent.name, suggested, 0.971 if suggested else None, bool(suggested))
        )
    return pd.DataFrame(rows, columns=["sha256", "class_name", "suggested", "probability", "sure"])


def found(data, tmp_path, record, settings=PLAIN):
    judged = judge(data, settings, tmp_path / "docs", audited=record)
    told = {problem.expectation: problem for problem in judged.verdict.problems}
    return judged, told.get("label_suspects")


def test_labels_surely_in_doubt_are_a_warning_that_great_expectations_and_the_report_show(data, tmp_path):
    judged, problem = found(data, tmp_path, audited(data, ["train/cats/0.jpg"]))

    assert judged.verdict.passed
    assert (problem.severity, problem.paths) == ("warning", ("train/cats/0.jpg",))
    assert problem.reasons == ("looks like dogs (97.1%)",)
    assert "more than 2% of those that the last audit saw" in problem.summary
    assert judged.verdict.message == "data passed 32 expectations with 1 warning"
    assert judged.verdict.notes == {}
    write_report(judged, data, tmp_path / "report.html")
    assert "looks like dogs (97.1%)" in (tmp_path / "report.html").read_text()
    pages = "".join(path.read_text() for path in (tmp_path / "docs").rglob("*.html"))
    assert "label_suspects" in pages


def test_the_largest_doubt_is_told_first(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg", "train/cats/1.jpg", "test/dogs/1.jpg"])
    chances = {sha256(data / "train/cats/1.jpg"): 0.99, sha256(data / "train/cats/0.jpg"): 0.98}
    record["probability"] = record["sha256"].map(chances).fillna(record["probability"])
    _, problem = found(data, tmp_path, record)

    assert problem.paths == ("train/cats/1.jpg", "train/cats/0.jpg", "test/dogs/1.jpg")
    assert problem.reasons[0] == "looks like dogs (99.0%)"


def test_few_doubts_meet_the_expectation(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg"])
    enough = ValidateSettings(max_label_suspects=1 / 12)
    judged, problem = found(data, tmp_path, record, enough)

    assert problem is None
    assert "label_suspects" in judged.verdict.expectations
    fewer = ValidateSettings(max_label_suspects=1 / 12 - 0.001)
    assert found(data, tmp_path, record, fewer)[1] is not None


@pytest.mark.parametrize("saw", ["no audit", "others", "a few"])
def test_what_no_audit_saw_is_not_checked_and_says_so(data, tmp_path, saw):
    record = audited(data, [str(path.relative_to(data)) for path in data.glob("*/*/*.jpg")])
    if saw == "others":
        record["sha256"] = "f" * 64
    judged, problem = found(
        data, tmp_path, None if saw == "no audit" else record[: 9 if saw == "a few" else 12]
    )

    assert problem is None
    assert judged.verdict.passed
    assert "label_suspects" not in judged.verdict.expectations
    few = "the last audit saw 9 of 12 labelled images"
    note = f"not checked: {few if saw == 'a few' else 'no audit saw these images'} (`vggflow audit`)"
    assert json.loads(json.dumps(judged.to_dict()))["notes"] == {"label_suspects": note}
    console = Console(width=200, file=io.StringIO())
    console.print(judged.to_table())
    assert f"label_suspects: {note}" in console.file.getvalue()
    write_report(judged, data, tmp_path / "report.html")
    assert note in html.unescape((tmp_path / "report.html").read_text())


def test_most_of_the_images_tell_enough_and_how_many_they_are_is_said(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg"])
    for number in range(3):
        (data / "train" / "dogs" / f"new{number}.jpg").write_bytes(jpeg(900 + number))
    judged, problem = found(data, tmp_path, record)

    assert problem.paths == ("train/cats/0.jpg",)
    note = "the last audit saw 12 of 15 labelled images"
    assert judged.verdict.notes == {"label_suspects": note}


def test_what_an_audit_said_of_a_label_is_not_said_of_another_one(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg", "train/cats/1.jpg"])
    (data / "train" / "cats" / "0.jpg").rename(data / "train" / "dogs" / "moved.jpg")
    (data / "train" / "cats" / "1.jpg").write_bytes(jpeg(901))
    judged, problem = found(data, tmp_path, record)

    assert problem is None
    assert "10 of 12" in judged.verdict.notes["label_suspects"]
    assert "label_suspects" in judged.verdict.expectations


def test_a_class_that_is_gone_is_no_suggestion(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg"], classes=("wolves",))

    assert found(data, tmp_path, record)[1] is None


def test_images_left_out_and_unlabelled_ones_count_neither_way(data, tmp_path):
    record = audited(data, ["train/cats/0.jpg"])
    (data / "test" / "unknown").mkdir()
    (data / "test" / "unknown" / "what.jpg").write_bytes(jpeg(902))
    digest = sha256(data / "train" / "cats" / "0.jpg")
    judged, problem = found(data, tmp_path, record, ValidateSettings(exclude_images=(digest,)))

    assert problem is None
    assert judged.verdict.notes == {}


def test_names_of_any_characters_and_many_classes_are_told_as_they_are(tmp_path):
    classes = ("a b'\"<i>", "ünï 猫", *(f"c{number}" for number in range(30)))
    data = grow(tmp_path / "data", classes=classes, per_class=2)
    image = f"train/{classes[0]}/0.jpg"
    record = audited(data, [image], classes=classes[1:])
    judged, problem = found(data, tmp_path, record, ValidateSettings(max_label_suspects=0.0))

    assert problem.paths == (image,)
    assert problem.reasons == ("looks like ünï 猫 (97.1%)",)
    write_report(judged, data, tmp_path / "report.html")
    assert "<i>" not in (tmp_path / "report.html").read_text()


def test_it_changes_no_table_and_no_digest(data, tmp_path):
    with_record, _ = found(data, tmp_path, audited(data, ["train/cats/0.jpg"]))
    without, _ = found(data, tmp_path, None)

    assert with_record.manifest.equals(without.manifest)
    assert manifests.content_digest(with_record.manifest) == manifests.content_digest(without.manifest)


def test_switched_off_it_says_nothing_and_critical_is_refused(data, tmp_path):
    off = ValidateSettings(severity={"label_suspects": "off"})
    judged, problem = found(data, tmp_path, None, off)

    assert (problem, judged.verdict.notes) == (None, {})
    with pytest.raises(ValueError, match=r"label_suspects can't be critical: .*; use warning, note or off"):
        ValidateSettings(severity={"label_suspects": "critical"})


def test_no_labelled_image_is_nothing_that_was_checked():
    columns = ("path", "split", "class_name", "error", "excluded", "sha256")
    told = doubts(pd.DataFrame({name: [] for name in columns}), None)

    assert not told.checked
    assert told.beyond(0.0) == {}
