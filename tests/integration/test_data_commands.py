"""`data import`, `data diff` and `validate` as a person types them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import COLOURS, Ran, draw

from vggflow.commands import evaluate, register, train, validate
from vggflow.workspace import find

Command = Callable[..., Ran]


def _tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _log(root: Path) -> list[str]:
    said = subprocess.run(["git", "log", "--format=%s"], cwd=root, capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


@pytest.fixture
def delivery(tmp_path: Path) -> Path:
    """Forty green pictures of ten patients, in no splits."""
    for number in range(40):
        draw(
            tmp_path / "delivery" / "green" / f"patient{number % 10}_{number}.png",
            (40, 200, 60),
            9000 + number,
        )
    return tmp_path / "delivery"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    vggflow: Command, workspace: Path, delivery: Path
) -> None:
    before, log = _tree(workspace / "data"), _log(workspace)
    ran = vggflow("-C", workspace, "data", "import", delivery, "--dry-run", "--json")

    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["copied"] == 40
    assert (_tree(workspace / "data"), _log(workspace)) == (before, log)


def test_shares_and_groups_are_those_that_were_asked_for_and_no_commit_leaves_git_alone(
    vggflow: Command, workspace: Path, delivery: Path
) -> None:
    log = _log(workspace)
    ran = vggflow(
        "-C", workspace, "data", "import", delivery, "--valid", "0.4", "--test", "0",
        "--group", r"patient(\d)", "--no-commit", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    counts = {split: of_class["green"] for split, of_class in json.loads(ran.out)["images"].items()}
    splits: dict[str, set[str]] = {}
    for path in (workspace / "data").glob("*/green/*"):
        splits.setdefault(path.name.split("_")[0], set()).add(path.parts[-3])

    assert set(counts) == {"train", "valid"}
    assert all(len(found) == 1 for found in splits.values())
    assert _log(workspace) == log
    status = ["git", "status", "--short", "data.dvc"]
    assert subprocess.run(status, cwd=workspace, capture_output=True, text=True).stdout == " M data.dvc\n"

    again = vggflow("-C", workspace, "data", "import", delivery, "--valid", "0", "--json")
    assert again.code == 0, again.err
    assert (json.loads(again.out)["copied"], json.loads(again.out)["already_there"]) == (0, 40)


def test_a_damaged_archive_ends_with_2_and_one_line(
    vggflow: Command, workspace: Path, delivery: Path
) -> None:
    archive = Path(shutil.make_archive(str(delivery), "gztar", delivery))
    archive.write_bytes(archive.read_bytes()[:-3000])
    before = _tree(workspace / "data")
    ran = vggflow("-C", workspace, "data", "import", archive)

    assert ran.code == 2
    assert "is no zip or tar that can be read whole" in ran.err.strip().splitlines()[-1]
    assert _tree(workspace / "data") == before


@pytest.mark.slow
def test_two_imports_at_once_both_arrive(workspace: Path, tmp_path: Path) -> None:
    for seed, name in ((7000, "one"), (8000, "two")):
        for number in range(60):
            draw(tmp_path / name / "train" / "red" / f"{name}{number}.png", COLOURS["red"], seed + number)
    command = [str(Path(sys.executable).parent / "vggflow"), "-C", str(workspace), "data", "import"]
    both = [
        subprocess.Popen([*command, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    said = [process.communicate()[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    there = workspace / "data" / "train" / "red"
    for name in ("one", "two"):
        for picture in (tmp_path / name / "train" / "red").iterdir():
            assert (there / picture.name).read_bytes() == picture.read_bytes()
    assert not (workspace / "data" / ".importing").exists()


def test_validate_shows_images_per_split_and_class_and_prints_all_as_json(
    vggflow: Command, workspace: Path
) -> None:
    shown = vggflow("-C", workspace, "validate")
    passed = vggflow("-C", workspace, "validate", "--json")
    (workspace / "data/train/red/0.png").write_bytes(b"")
    refused = vggflow("-C", workspace, "validate", "--json")

    assert "class  train  valid  test" in shown.err
    assert "blue       8      4     6" in shown.err
    assert (passed.code, refused.code) == (0, 3)
    assert json.loads(passed.out)["images"]["train"] == {"blue": 8, "red": 8}
    assert json.loads(refused.out)["problems"][0]["paths"] == ["train/red/0.png"]


@pytest.fixture
def registered(evaluated: Path, tmp_path: Path) -> Path:
    """A workspace with a candidate."""
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    register.register(find(root))
    return root


def test_diff_and_report_say_the_same_of_what_changed_since_the_newest_candidate(
    vggflow: Command, registered: Path
) -> None:
    assert json.loads(vggflow("-C", registered, "data", "diff", "--json").out)["added"] == []

    draw(registered / "data/train/red/new.png", COLOURS["red"], 4321)
    (registered / "data/train/red/1.png").rename(registered / "data/train/blue/1 was red.png")
    shutil.copy(registered / "data/train/red/0.png", registered / "data/train/red/twin.png")
    params = registered / "params.yaml"
    params.write_text(params.read_text().replace("validate:\n", "validate:\n  exclude: [exact_duplicates]\n"))
    diff = json.loads(vggflow("-C", registered, "data", "diff", "--json").out)
    assert diff["added"] == ["train/red/new.png", "train/red/twin.png"]
    assert diff["relabelled"] == [["train/red/1.png", "train/blue/1 was red.png"]]
    assert (diff["readmitted"], diff["excluded"]) == ([], [])

    ran = vggflow("-C", registered, "validate", "--json")
    assert ran.code == 0, ran.err
    assert [problem["expectation"] for problem in json.loads(ran.out)["problems"]] == ["relabelled"]
    report = (registered / "validation/report.html").read_text()
    assert "Changed since the newest candidate&#39;s data" in report
    assert "2 added, 1 relabelled" in report
    shown = vggflow("-C", registered, "data", "diff")
    assert "2 added, 1 relabelled" in shown.out


@pytest.mark.slow
def test_a_quarantined_file_that_the_candidate_had_left_out_is_not_readmitted(
    vggflow: Command, registered: Path
) -> None:
    params = registered / "params.yaml"
    params.write_text(params.read_text().replace("validate:\n", "validate:\n  exclude: [exact_duplicates]\n"))
    shutil.copy(registered / "data/train/red/0.png", registered / "data/train/red/twin.png")
    here = find(registered)
    for stage in (validate.validate, train.train, evaluate.evaluate):
        stage(here)
    register.register(here)
    diff = json.loads(vggflow("-C", registered, "data", "diff", "--json").out)

    assert {kind: found for kind, found in diff.items() if found and kind != "counts"} == {}


def test_a_class_that_vanished_since_the_newest_candidate_is_refused(
    vggflow: Command, registered: Path
) -> None:
    for split in ("train", "valid", "test"):
        (registered / "data" / split / "red").rename(registered / "data" / split / "rot")
    ran = vggflow("-C", registered, "validate")

    assert ran.code == 3
    assert "vanished_class" in ran.err
    assert "train/red" in ran.err.strip().splitlines()[-1]
