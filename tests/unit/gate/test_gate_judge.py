"""The gate as a whole, with Great Expectations: verdict, Data Docs, severities, quarantine."""

import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from made_pictures import encode, grow, jpeg, picture
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits

from vggflow.data import layout
from vggflow.data.manifest import labelled
from vggflow.data.names import printable
from vggflow.errors import VggflowError
from vggflow.gate import great_expectations_suites, judge
from vggflow.gate import tables as findings
from vggflow.gate.rules import rules
from vggflow.gate.scan import scan
from vggflow.gate.verdict import Verdict, decide
from vggflow.settings import Excludable, Expectation, ValidateSettings

PLAIN = ValidateSettings()


def decided(data, settings=PLAIN, reference=None):
    """The verdict alone: Great Expectations and its pages, which take a second, have tests of their own."""
    manifest, not_compared = judge.look(data, settings)
    tables = findings.tables(manifest, layout.class_folders(data), reference)
    return decide(manifest, tables, rules(settings), not_compared)


def confirmed(manifest, docs, folders=None):
    """The verdict on a manifest, confirmed by Great Expectations, with its pages."""
    tables = findings.tables(manifest, folders)
    verdict = decide(manifest, tables, rules(PLAIN))
    great_expectations_suites.confirm(verdict, tables, rules(PLAIN), docs)
    return verdict


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A data folder with a fault of nearly every kind."""
    data = grow(tmp_path_factory.mktemp("faulty") / "data")
    cats = data / "train" / "cats"
    first = (cats / "0.jpg").read_bytes()
    (cats / "broken.jpg").write_bytes(first[:900])
    (cats / "twice.jpg").write_bytes(first)
    (data / "test" / "cats" / "leak.jpg").write_bytes(first)
    (data / "valid" / "cats" / "near.jpg").write_bytes(encode(picture(0), "JPEG", quality=50))
    (data / "train" / "dogs" / "mislabelled.jpg").write_bytes(encode(picture(0), "JPEG", quality=60))
    (cats / "fake.jpg").write_bytes(encode(picture(80), "PNG"))
    (cats / "tiny.png").write_bytes(encode(picture(81, 5, 5), "PNG"))
    (cats / "link.jpg").symlink_to("0.jpg")
    (cats / "notes.txt").write_text("x")
    (data / "valid" / "birds").mkdir()
    return data


@pytest.fixture(scope="module")
def judged(faulty, tmp_path_factory):
    return judge.judge(faulty, PLAIN, tmp_path_factory.mktemp("docs") / "data_docs")


def test_good_data_pass_and_leave_data_docs(data, tmp_path):
    judgement = judge.judge(data, PLAIN, tmp_path / "out" / "docs")

    assert judgement.verdict.passed
    assert judgement.verdict.problems == ()
    assert judgement.verdict.message == "data passed 31 expectations"
    assert (tmp_path / "out" / "docs" / "index.html").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["docs"]


def test_faulty_data_are_refused_and_every_problem_names_its_files(judged):
    found = {problem.expectation: problem for problem in judged.verdict.problems}

    assert not judged.verdict.passed
    assert found["unreadable"].paths == ("train/cats/broken.jpg",)
    assert found["exact_duplicates"].paths == ("train/cats/twice.jpg",)
    assert found["exact_duplicates"].others == ("train/cats/0.jpg",)
    assert set(found["leakage"].paths) == {"train/cats/0.jpg", "train/cats/twice.jpg", "test/cats/leak.jpg"}
    assert "valid/cats/near.jpg" in found["near_leakage"].paths
    assert "train/dogs/mislabelled.jpg" in found["label_conflicts"].paths
    assert found["too_small"].paths == ("train/cats/tiny.png",)
    assert found["links"].reasons == ("a link to 0.jpg",)
    assert found["missing_class"].paths == ("valid/birds",)
    assert found["different_classes"].paths == ("valid/birds",)
    assert found["extension_mismatch"].severity == "warning"
    assert found["stray_files"].paths == ("train/cats/notes.txt",)


def test_critical_problems_come_first_and_the_message_is_one_line(judged):
    severities = [problem.severity for problem in judged.verdict.problems]

    assert severities == sorted(severities)
    assert judged.verdict.message == (
        "data refused: links: 1 file behind a link, which DVC stops at or replaces by a copy, "
        "such as train/cats/link.jpg (a link to 0.jpg); and 8 more kinds"
    )


def test_great_expectations_and_the_rules_find_the_same(judged, faulty):
    tables = {
        "images": findings.image_table(judged.manifest),
        "classes": findings.class_table(judged.manifest, layout.class_folders(faulty)),
    }
    by_rules = {
        rule.name: tuple(tables[rule.table].loc[rule.broken_by(tables[rule.table]), "path"])
        for rule in rules(PLAIN)
    }

    assert {name: paths for name, paths in by_rules.items() if paths} == {
        problem.expectation: problem.paths for problem in judged.verdict.problems
    }


def test_the_verdict_can_be_written_as_json_and_shown_as_a_table(judged):
    content = json.loads(json.dumps(judged.verdict.to_dict()))
    console = Console(width=200, file=io.StringIO())
    console.print(judged.verdict.to_table())

    assert content["passed"] is False
    assert content["problems"][0]["expectation"] == "links"
    assert "train/cats/broken.jpg" in console.file.getvalue()


def test_data_docs_are_replaced_not_piled_up(data, tmp_path):
    manifest = scan(data)
    for _ in range(2):
        confirmed(manifest, tmp_path / "docs")

    assert len(list((tmp_path / "docs" / "validations" / "faulty_files").rglob("*.html"))) == 1


def test_data_docs_bring_only_the_files_that_their_pages_name(data, tmp_path):
    docs = tmp_path / "docs"
    confirmed(scan(data), docs)
    pages = "".join(page.read_text("utf-8") for page in docs.rglob("*.html"))

    kept = {str(path.relative_to(docs)) for path in (docs / "static").rglob("*") if path.is_file()}
    assert kept == {"static/images/favicon.ico"}
    assert set(re.findall(r"static/[\w./-]+", pages)) == kept


def test_great_expectations_and_the_verdict_must_agree(data, tmp_path):
    manifest = scan(data)
    tables = findings.tables(manifest)
    verdict = decide(manifest, tables, rules(PLAIN))
    tables["images"].loc[0, "unreadable"] = "cut off"

    with pytest.raises(
        VggflowError, match="unreadable: Great Expectations counts 1 rows in files_per_class, the manifest 0"
    ):
        great_expectations_suites.confirm(verdict, tables, rules(PLAIN), tmp_path / "docs")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".data_docs")] == []


def test_severities_are_settings_and_off_is_off(faulty):
    off = dict.fromkeys(get_args(Expectation), "off")
    settings = ValidateSettings(severity={**off, "unreadable": "warning"})
    verdict = decided(faulty, settings)

    assert verdict.passed
    assert verdict.expectations == ("unreadable",)
    assert verdict.message == "data passed 1 expectation with 1 warning"


def test_what_is_excluded_is_listed_and_no_longer_a_problem(faulty, tmp_path):
    kinds = ("unreadable", "exact_duplicates", "near_leakage", "label_conflicts", "too_small")
    before = sorted((path, path.stat().st_mtime_ns) for path in faulty.rglob("*"))
    judgement = judge.judge(faulty, ValidateSettings(exclude=kinds), tmp_path / "docs")
    problems = {problem.expectation for problem in judgement.verdict.problems}

    assert problems.isdisjoint({*kinds, "leakage"})
    assert judgement.verdict.excluded["unreadable"] == 1
    assert "train/cats/broken.jpg" not in labelled(judgement.manifest, "train")["path"].tolist()
    assert sorted((path, path.stat().st_mtime_ns) for path in faulty.rglob("*")) == before


def test_an_image_that_is_listed_by_its_hash_is_left_out_wherever_it_lies(tmp_path):
    data = grow(tmp_path / "data", per_class=4)
    (image, *_) = sorted((data / "train" / "cats").iterdir())
    (data / "valid" / "cats" / f"again{image.suffix}").write_bytes(image.read_bytes())
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    settings = ValidateSettings(exclude_images=(digest, "0" * 64), exclude=("leakage",))
    judgement = judge.judge(data, settings, tmp_path / "docs")

    out = judgement.manifest[judgement.manifest["excluded"].notna()]
    assert set(out["sha256"]) == {digest}
    assert len(out) == 2
    assert judgement.verdict.excluded == {"exclude_images": 2}
    assert image.exists()


def test_label_shift_is_told_against_a_reference(tmp_path):
    data = grow(tmp_path / "data", per_class=4)
    reference = scan(data)
    for number in range(8):
        (data / "train" / "dogs" / f"more{number}.jpg").write_bytes(jpeg(200 + number))
    verdict = judge.judge(data, PLAIN, tmp_path / "docs", reference=reference).verdict

    assert verdict.passed
    assert [(problem.expectation, problem.reasons[0]) for problem in verdict.problems] == [
        ("label_shift", "its share moved by 25.0%, expected at most 10%")
    ]


def test_a_class_that_vanished_from_all_splits_is_refused_unless_that_is_switched_off(tmp_path):
    data = grow(tmp_path / "data", classes=("birds", "cats", "dogs"))
    reference = scan(data)
    for split in ("train", "valid", "test"):
        shutil.rmtree(data / split / "birds")
    verdict = decided(data, reference=reference)

    assert not verdict.passed
    assert verdict.problems[0].expectation == "vanished_class"
    assert verdict.problems[0].paths == ("train/birds",)
    meant = ValidateSettings(severity={"vanished_class": "off"})
    assert decided(data, meant, reference).passed


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_that_shrank_is_told_against_a_reference(tmp_path, split):
    data = grow(tmp_path / "data", per_class=10)
    reference = scan(data)
    for path in [*(data / split).glob("*/*")]:
        if int(path.stem) >= 4:
            path.unlink()
    verdict = decided(data, reference=reference)

    assert verdict.passed
    (problem,) = verdict.problems
    assert (problem.expectation, problem.paths) == ("shrunk", (f"{split}/cats", f"{split}/dogs"))
    assert problem.reasons[0] == "4 images, 10 there, expected at least 80% of them"


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_split_whose_shares_moved_is_told_against_a_reference(tmp_path, split):
    data = grow(tmp_path / "data", per_class=4)
    reference = scan(data)
    for number in range(8):
        (data / split / "dogs" / f"more{number}.jpg").write_bytes(jpeg(200 + number))
    verdict = decided(data, reference=reference)

    (problem,) = verdict.problems
    assert (problem.expectation, problem.paths) == ("label_shift", (f"{split}/cats", f"{split}/dogs"))
    assert problem.reasons[0] == "its share moved by 25.0%, expected at most 10%"


def test_a_test_split_that_is_gone_is_refused_unless_that_is_switched_off(tmp_path):
    data = grow(tmp_path / "data")
    reference = scan(data)
    shutil.rmtree(data / "test")
    verdict = decided(data, reference=reference)

    assert not verdict.passed
    assert verdict.problems[0].expectation == "vanished_class"
    assert verdict.problems[0].paths == ("test/cats", "test/dogs")
    meant = ValidateSettings(severity={"vanished_class": "warning"})
    assert decided(data, meant, reference).passed


def test_a_split_that_is_new_or_lost_a_fifth_of_its_images_is_no_problem(tmp_path):
    data = grow(tmp_path / "data", per_class=10)
    reference = scan(data)
    without_test = reference[reference["split"] != "test"]
    for split in ("train", "valid"):
        for path in [*(data / split).glob("*/[89].jpg")]:
            path.unlink()
    verdict = decided(data, reference=without_test)
    assert verdict.problems == ()


def test_swapped_labels_are_told_against_a_reference(tmp_path):
    data = grow(tmp_path / "data")
    reference = scan(data)
    (data / "train" / "cats" / "0.jpg").rename(data / "train" / "dogs" / "from cats.jpg")
    (data / "train" / "dogs" / "0.jpg").rename(data / "train" / "cats" / "from dogs.jpg")
    verdict = decided(data, reference=reference)

    assert [(problem.expectation, problem.paths, problem.reasons) for problem in verdict.problems] == [
        ("relabelled", ("train/cats/from dogs.jpg", "train/dogs/from cats.jpg"), ("dogs there", "cats there"))
    ]


def test_names_can_do_no_harm_in_data_docs(data, tmp_path):
    hostile = "<img src=x onerror=alert(1)>$name.jpg"
    (data / "train" / "cats" / hostile).write_bytes((data / "train" / "cats" / "0.jpg").read_bytes())
    (data / "test" / "cats" / hostile).write_bytes((data / "train" / "cats" / "0.jpg").read_bytes())
    (data / "train" / "cats" / "link.jpg").symlink_to("<script>alert(2)</script>")
    (data / "train" / "<b onclick=alert(3)>").mkdir()
    (data / "train" / "<i onclick=alert(4)>").mkdir()
    (data / "train" / "<i onclick=alert(4)>" / "$broken.jpg").write_bytes(jpeg(400)[:500])
    judge.judge(data, PLAIN, tmp_path / "docs")
    pages = "".join(page.read_text() for page in (tmp_path / "docs").rglob("*.html"))

    assert "onerror=alert(1)" in pages, "the name is shown"
    assert "onclick=alert(4)&gt; (1 files)" in pages
    for harm in ("<img src=x", "<script>alert", "<b onclick", "<i onclick"):
        assert harm not in pages


def test_a_judgement_shows_images_per_split_and_class_and_has_them_in_its_json(judged):
    console = Console(width=200, file=io.StringIO())
    console.print(judged.to_table())

    assert json.loads(json.dumps(judged.to_dict()))["images"]["valid"] == {"cats": 3, "dogs": 2}
    assert "valid" in console.file.getvalue()
    assert "train/cats/broken.jpg" in console.file.getvalue()


def test_looking_finds_the_manifest_that_judging_finds(faulty, tmp_path):
    settings = ValidateSettings(exclude=("unreadable", "leakage"))
    judged = judge.judge(faulty, settings, tmp_path / "docs")

    assert judge.look(faulty, settings).manifest.equals(judged.manifest)


def test_pairs_that_were_not_compared_are_told():
    verdict = Verdict(True, (), ("links",), {}, not_compared=5)

    assert verdict.message == "data passed 1 expectation; 5 pairs of look-alikes were not compared"
    assert verdict.to_dict()["not_compared"] == 5


def test_the_digits_pass_with_no_special_case(tmp_path):
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = ("train", "valid", "test")[number % 3]
        folder = tmp_path / "data" / split / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
        grey.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    verdict = decided(tmp_path / "data")

    assert verdict.problems == ()


def test_an_empty_second_split_needs_the_folders_to_be_noticed(data, tmp_path):
    shutil.rmtree(data / "valid" / "dogs")
    (data / "valid" / "dogs").mkdir()
    manifest = scan(data)
    verdict = confirmed(manifest, tmp_path / "docs", layout.class_folders(data))

    assert [problem.paths for problem in verdict.problems] == [("valid/dogs",)]


@pytest.mark.slow
def test_the_gate_imports_no_tensorflow(data, tmp_path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vggflow.gate import judge, report\n"
        "from vggflow.settings import ValidateSettings\n"
        f"judged = judge.judge(Path({str(data)!r}), ValidateSettings(), Path({str(tmp_path)!r}) / 'docs')\n"
        f"report.write_report(judged, Path({str(data)!r}), Path({str(tmp_path)!r}) / 'report.html')\n"
        "print(sorted({'tensorflow', 'keras', 'torch', 'mlflow', 'prefect'} & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout == "[]\n"
    assert said.stderr == ""


def test_every_expectation_has_a_rule_and_settings_name_them_all():
    names = [rule.name for rule in rules(PLAIN)]

    assert sorted(names) == sorted(get_args(Expectation))
    assert set(get_args(Excludable)) <= {rule.name for rule in rules(PLAIN) if rule.table == "images"}


def test_names_are_printed_in_one_line():
    assert printable("a\nb\x1b[31m größe 猫") == "a\\nb\\x1b[31m größe 猫"


@pytest.mark.parametrize("name", ["$HOME", "a$b c", "${USER}", "$", r"a\$HOME"])
def test_a_dollar_sign_in_the_path_is_no_variable(data, tmp_path, name):
    home = Path.home()
    before = set(home.iterdir())
    docs = tmp_path / name / "docs"
    judge.judge(data, PLAIN, docs)

    assert (docs / "index.html").exists()
    assert [path.name for path in docs.parent.iterdir()] == ["docs"]
    assert set(home.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "data"])


def test_a_note_is_told_and_refuses_nothing(data):
    content = encode(picture(300), "PNG")
    text = struct.pack(">I", 3) + b"tEXta\0b" + b"\0\0\0\0"
    (data / "train" / "cats" / "noted.png").write_bytes(content[:33] + text + content[33:])
    verdict = decided(data)

    assert verdict.message == "data passed 32 expectations with 1 note"
    assert [(problem.expectation, problem.severity) for problem in verdict.problems] == [
        ("odd_metadata", "note")
    ]
