import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import PIL
import pytest

import vggflow
from vggflow import version
from vggflow.commands import prepare
from vggflow.errors import UsageError
from vggflow.workspace import check_version, find, follow_version


def test_the_stamp_names_version_and_digest() -> None:
    assert re.fullmatch(rf"{re.escape(vggflow.__version__)} sha256:[0-9a-f]{{16}}", version.stamp())


def test_the_text_is_the_stamp_and_a_package_a_line() -> None:
    first, *rest = version.text().splitlines()
    assert first == version.stamp()
    assert f"pillow {PIL.__version__}" in rest


def test_another_source_gives_another_digest(tmp_path: Path) -> None:
    copy = tmp_path / "vggflow"
    shutil.copytree(Path(vggflow.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = version.digest(copy)
    assert before == version.digest(Path(vggflow.__file__).parent)
    (copy / "data" / "images.py").write_text("# other\n")
    assert version.digest(copy) != before


def test_other_line_ends_give_the_same_digest(tmp_path: Path) -> None:
    for name, end in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_bytes(b"one = 1" + end + b"two = 2" + end)
    assert version.digest(tmp_path / "unix") == version.digest(tmp_path / "windows")


def test_differences_name_what_differs_and_how() -> None:
    before = "0.1.0 sha256:1\nnumpy 2.3.0\npillow 12.0.0\nzlib 1.3\n"
    now = "0.1.0 sha256:1\nnumpy 2.3.0\npillow 12.1.0\nlibjpeg 6.2\n"
    assert version.differences(before, now) == [
        "libjpeg none → 6.2",
        "pillow 12.0.0 → 12.1.0",
        "zlib 1.3 → none",
    ]
    assert version.differences(now.replace("\n", "\r\n"), now) == []


def test_a_workspace_of_before_says_once_that_packages_are_named_now() -> None:
    assert version.differences("0.0.9 sha256:1\n", "0.1.0 sha256:2\nnumpy 2.3.0\n") == [
        "vggflow 0.0.9 sha256:1 → 0.1.0 sha256:2",
        "packages not named → named",
    ]


def _of_another_machine(root: Path) -> str:
    """Bob commits what his machine has: another Pillow."""
    path = root / "vggflow.version"
    here = path.read_text()
    path.write_text(here.replace(f"pillow {PIL.__version__}", "pillow 9.9.9"))
    identity = ["-c", "user.name=Bob", "-c", "user.email=bob@example.org"]
    subprocess.run(["git", *identity, "commit", "--quiet", "-am", "Versions"], cwd=root, check=True)
    return here


def test_a_stage_by_hand_refuses_other_packages_and_says_which_and_whose(workspace: Path) -> None:
    _of_another_machine(workspace)
    with pytest.raises(UsageError, match=rf"committed by Bob on .*: pillow 9.9.9 → {PIL.__version__};"):
        check_version(find(workspace))


def test_a_retraining_follows_and_says_which_and_whose(workspace: Path) -> None:
    here = _of_another_machine(workspace)
    said = prepare.prepare(find(workspace))
    assert f"pillow 9.9.9 → {PIL.__version__}" in said[0]
    assert "committed by Bob" in said[0]
    assert (workspace / "vggflow.version").read_text() == here
    assert follow_version(find(workspace)) == ""


@pytest.mark.slow
def test_another_pillow_makes_stages_stale_and_is_named(workspace: Path, tmp_path: Path) -> None:
    other = tmp_path / "site" / "pillow-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 99.0\n")
    command = [sys.executable, "-m", "vggflow.cli", "-C", str(workspace), "retrain", "--dry-run", "--json"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(other.parent)}, capture_output=True, text=True
    )
    steps = {row["step"]: row["why"] for row in json.loads(done.stdout)}
    for stage in ("validate", "train", "evaluate"):
        assert f"pillow {PIL.__version__} → 99.0" in steps[stage]


def test_a_pipeline_that_nobody_changed_follows_and_a_changed_one_stays(workspace: Path) -> None:
    path = workspace / "dvc.yaml"
    new = path.read_text()
    before = (Path(__file__).parent / "dvc_before.yaml").read_text()
    path.write_bytes(before.replace("\n", "\r\n").encode())
    assert "dvc.yaml is this vggflow's now" in prepare.prepare(find(workspace))[0]
    assert path.read_text() == new
    path.write_text(before + "  mine:\n    cmd: echo\n")
    assert not any("dvc.yaml" in line for line in prepare.prepare(find(workspace)))
    assert path.read_text().endswith("echo\n")
