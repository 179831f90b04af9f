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
from tiny import Ran

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
    assert "36 images: 1 labels in doubt" in told.out
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


def test_what_can_t_be_doubted_is_said_in_one_line(swapped: Path, tmp_path: Path, vggflow: Command) -> None:
    decided = tmp_path / "decided.csv"
    decided.write_text("decision,path\nkeep,train/red/1.png\n")
    params = swapped / "params.yaml"
    text = params.read_text()
    cases = [
        (("-o", tmp_path), "is a folder"),
        (("-o", decided), "holds decisions"),
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
