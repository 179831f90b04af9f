"""`vggflow audit`: wrong labels are named, nothing is changed, and what can't be doubted is said in one line."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import Ran, draw

Command = Callable[..., Ran]


@pytest.fixture
def swapped(evaluated: Path, tmp_path: Path, vggflow: Command) -> Path:
    """A workspace whose start weights know red from blue, with a blue image among the red ones."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    (root / "weights").mkdir(exist_ok=True)
    shutil.copy(root / "model" / "model.keras", root / "weights" / "start.keras")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["model"]["weights"] = "start.keras"
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    image = root / "data" / "train" / "blue" / "0.png"
    shutil.move(image, root / "data" / "train" / "red" / "of-another-kind.png")
    assert vggflow("-C", root, "validate").code == 0
    return root


def _bytes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_wrong_label_is_named_shown_and_left_as_it_is(
    swapped: Path, tmp_path: Path, vggflow: Command
) -> None:
    before = _bytes(swapped / "data")
    told = vggflow("-C", swapped, "audit", "-o", tmp_path / "suspects.csv")
    assert told.code == 0, told
    assert re.search(r"train/red/of-another-kind\.png +red +blue +\d\.\d+", told.out), told
    assert "36 images: 1 label in doubt" in told.out
    assert "start.keras was trained" in told.err
    assert _bytes(swapped / "data") == before
    table = pd.read_csv(tmp_path / "suspects.csv", encoding="utf-8-sig")
    assert table["path"].tolist() == ["train/red/of-another-kind.png"]
    assert table.loc[0, "sha256"] == before["train/red/of-another-kind.png"]
    page = (swapped / ".vggflow" / "audit" / "report.html").read_text()
    assert "train/red/of-another-kind.png" in page
    assert page.count("data:image/jpeg") >= 20
    assert "<script" not in page and "http" not in page
    again = json.loads(vggflow("-C", swapped, "audit", "--json").out)
    assert [each["path"] for each in again["suspects"]] == ["train/red/of-another-kind.png"]
    assert again["images"] == 36


def test_the_gate_warns_of_what_an_audit_found_and_nothing_else_changes(
    swapped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vggflow: Command
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("VGGFLOW_STATE", str(state))
    result, tables = swapped / "validation" / "result.json", ("manifest.json", "training.json")
    told = vggflow("-C", swapped, "validate")
    assert "label_suspects: not checked: no audit saw these images (`vggflow audit`)" in told.err, told
    assert not state.exists(), "the gate makes no folder for what it only reads"
    before = [(swapped / "validation" / name).read_bytes() for name in tables]
    assert vggflow("-C", swapped, "audit").code == 0
    told = vggflow("-C", swapped, "validate")
    assert told.code == 0, told
    assert "data passed 32 expectations with 1 warning" in told.out + told.err
    (problem,) = json.loads(result.read_text())["problems"]
    assert (problem["expectation"], problem["severity"]) == ("label_suspects", "warning")
    assert problem["paths"] == ["train/red/of-another-kind.png"]
    assert [(swapped / "validation" / name).read_bytes() for name in tables] == before
    shutil.rmtree(state)
    state.write_text("a file in its place")
    assert vggflow("-C", swapped, "validate").code == 0
    assert "label_suspects" in json.loads(result.read_text())["notes"]


def test_the_evaluation_report_shows_what_is_known_and_no_number_depends_on_it(
    swapped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vggflow: Command
) -> None:
    monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / "state"))
    folder = swapped / "evaluation"

    def evaluate() -> tuple[str, str, list[bytes]]:
        ended = vggflow("-C", swapped, "evaluate")
        assert ended.code == 0, ended
        numbers = [(folder / name).read_bytes() for name in ("metrics.json", "predictions.parquet")]
        page = (folder / "report.html").read_text()
        return ended.err, page.partition("Suspected label errors")[2].partition("</section>")[0], numbers

    _, section, before = evaluate()
    assert "<code>vggflow audit</code> shows" in section
    assert "data:image" not in section
    assert not (tmp_path / "state" / "features").exists(), "nothing is computed for it"
    assert vggflow("-C", swapped, "audit").code == 0
    _, section, numbers = evaluate()
    assert "all labelled images, as the last audit saw them" in section
    assert "train/red/of-another-kind.png" in section
    assert numbers == before
    shutil.rmtree(tmp_path / "state" / "audits")
    _, section, numbers = evaluate()
    assert "train and valid and test" in section
    assert "train/red/of-another-kind.png" in section
    assert numbers == before
    shutil.rmtree(tmp_path / "state" / "audits")
    (swapped / "weights" / "start.keras").write_bytes(b"no weights any more")
    said, section, numbers = evaluate()
    assert "the report tells of no label in doubt: " in said
    assert (section, numbers) == ("", before)


def test_what_can_t_be_doubted_is_said_in_one_line(swapped: Path, tmp_path: Path, vggflow: Command) -> None:
    decided = tmp_path / "decided.csv"
    decided.write_text("decision,path\nkeep,train/red/1.png\n")
    params = swapped / "params.yaml"
    text = params.read_text()
    cases = [
        (("-o", tmp_path), "is a folder"),
        (("-o", decided), "something in its column decision"),
    ]
    for arguments, words in cases:
        told = vggflow("-C", swapped, "audit", *arguments)
        assert (told.code, len(told.err.splitlines())) == (2, 1), told
        assert words in told.err
    params.write_text(text.replace("start.keras", "none"))
    told = vggflow("-C", swapped, "audit")
    assert told.code == 2
    assert "random layers see nothing" in told.err
    params.write_text(text)
    (swapped / "data" / "train" / "red" / "1.png").write_bytes(b"another")
    told = vggflow("-C", swapped, "audit")
    assert told.code == 2
    assert "changed since validate" in told.err
    (swapped / "validation" / "manifest.parquet").unlink()
    told = vggflow("-C", swapped, "audit")
    assert "run `vggflow validate` first" in told.err


def test_what_would_teach_most_is_suggested_labelled_and_brought_in(
    swapped: Path, tmp_path: Path, vggflow: Command
) -> None:
    inbox = tmp_path / "inbox"
    for number in range(6):
        draw(inbox / f"{number}.png", ((120, 60, 120), (200, 60, 40))[number % 2], 50_000 + number)
    shutil.copy(swapped / "data" / "test" / "red" / "0.png", inbox / "of-test.png")
    (inbox / "broken.png").write_bytes(b"no image")
    table = tmp_path / "next.csv"
    told = vggflow("-C", swapped, "suggest", inbox, "-n", "3", "-o", table)
    assert told.code == 0, told
    assert "3 of 6 images suggested" in told.out
    assert "1 that are there already" in told.out and "1 unreadable" in told.out
    # There is no champion yet.
    assert "guesses by a classifier" in told.out
    page = (swapped / ".vggflow" / "suggest" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 3
    rows = pd.read_csv(table, encoding="utf-8-sig", dtype=str)
    # What lies between red and blue is harder to tell than what is red.
    assert int(Path(rows.loc[0, "image"]).stem) % 2 == 0
    rows.loc[0, "label"] = "red"
    rows.to_csv(table, index=False)
    told = vggflow("-C", swapped, "suggest", inbox, "-n", "3", "-o", table)
    assert (told.code, len(told.err.splitlines())) == (2, 1), told
    before = len(list((swapped / "data" / "train" / "red").iterdir()))
    told = vggflow("-C", swapped, "data", "import", table)
    assert told.code == 0, told
    assert "2 rows of next.csv have no label yet" in told.out + told.err
    brought = swapped / "data" / "train" / "red" / "inbox" / Path(rows.loc[0, "image"]).name
    assert brought.read_bytes() == Path(rows.loc[0, "image"]).read_bytes()
    assert len(list((swapped / "data" / "train" / "red").iterdir())) == before + 1
    for arguments in ((tmp_path / "nowhere",), (inbox, "-n", "0")):
        assert vggflow("-C", swapped, "suggest", *arguments).code == 2
