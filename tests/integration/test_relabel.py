"""`vggflow data relabel`: decisions become moves that DVC and git record, all or none, and can be taken back."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tiny import COLOURS, Ran, draw, draw_data

from vggflow import params_file
from vggflow import workspace as workspaces
from vggflow.versioning import label_changes, reconcile
from vggflow.workspace import Workspace

Command = Callable[..., Ran]
WRONG, OUT = "train/blue/0.png", "train/blue/1.png"


@pytest.fixture
def pets(workspace: Path, tmp_path: Path, vggflow: Command) -> Path:
    """A workspace with data, versioned, and a bare git remote."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(remote)], check=True)
    subprocess.run(["git", "remote", "add", "origin", str(remote)], cwd=workspace, check=True)
    told = vggflow("-C", workspace, "data", "import", draw_data(tmp_path / "delivery"))
    assert told.code == 0, told
    return workspace


def write(root: Path, path: Path, **decisions: str) -> Path:
    """A table of an audit with decisions: images by path."""
    rows = ["decision,path,class_name,suggested,probability,suspicion,sha256"]
    for name, decision in {"train/red/0.png": "", **decisions}.items():
        digest = hashlib.sha256((root / "data" / name).read_bytes()).hexdigest()
        rows.append(f"{decision},{name},a,b,0.9,0.9,{digest}")
    path.write_text("\n".join(rows) + "\n")
    return path


def state(root: Path) -> dict[str, str]:
    """All of data/ but what came later, by content, and what is left out."""
    found = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "data").rglob("*"))
        if path.is_file()
    }
    found = {path: digest for path, digest in found.items() if "/new-" not in path}
    left_out = (yaml.safe_load((root / "params.yaml").read_text())["validate"]).get("exclude_images", [])
    return found | {"left out": " ".join(left_out)}


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def test_decisions_are_carried_out_versioned_and_taken_back(
    pets: Path, tmp_path: Path, vggflow: Command
) -> None:
    before, head = state(pets), git(pets, "rev-parse", "HEAD")
    table = write(pets, tmp_path / "s.csv", **{WRONG: "move red", OUT: "exclude", "train/blue/2.png": "keep"})
    told = vggflow("-C", pets, "data", "relabel", table, "--dry-run")
    assert (told.code, state(pets)) == (0, before)
    told = vggflow("-C", pets, "data", "relabel", table)
    assert told.code == 0, told
    assert told.out.splitlines()[0] == "1 moved, 1 left out"
    after = state(pets)
    (moved,) = set(after) - set(before)
    assert moved.startswith("data/train/red/0-") and after[moved] == before[f"data/{WRONG}"]
    assert f"data/{WRONG}" not in after
    assert after["left out"] == before[f"data/{OUT}"]
    assert git(pets, "log", "-1", "--format=%s", "--name-only").split("\n")[:4] == [
        "Labels: 1 images moved, 1 left out",
        "",
        "data.dvc",
        "params.yaml",
    ]
    assert git(pets, "status", "--porcelain", "--untracked-files=no") == ""
    assert git(pets, "ls-remote", "--heads", "origin").split()[0] == git(pets, "rev-parse", "HEAD").strip()
    # The gate leaves it out, and what is learned is the new label.
    told = vggflow("-C", pets, "validate")
    assert told.code == 0, told
    manifest = workspaces.find(pets).path(Path("validation/manifest.parquet"))
    import pandas as pd

    rows = pd.read_parquet(manifest).set_index("path")
    assert rows.loc[OUT, "excluded"] == "exclude_images"
    assert rows.loc[moved.removeprefix("data/"), "class_name"] == "red"
    told = vggflow("-C", pets, "data", "relabel", "--undo")
    assert told.out.splitlines()[0] == "1 moved, 0 left out, 1 no longer left out"
    assert state(pets) == before
    assert git(pets, "diff", "--stat", head.strip(), "HEAD") == ""
    told = vggflow("-C", pets, "data", "relabel", "--undo")
    assert (told.code, "nothing was relabelled here" in told.err) == (2, True), told


class Killed(BaseException):
    """In place of a kill: nothing that comes after it is done."""


@contextmanager
def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Ends the process, as it were, before the n-th of the steps that change something."""
    steps: list[str] = []

    def counted(name: str, step: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **named: object) -> object:
            steps.append(name)
            if len(steps) == number:
                raise Killed
            return step(*arguments, **named)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted("rename", Path.rename))
        patch.setattr(label_changes, "write_json", counted("journal", label_changes.write_json))
        patch.setattr(params_file, "write_text", counted("params.yaml", params_file.write_text))
        patch.setattr(Workspace, "dvc", counted("dvc", Workspace.dvc))
        patch.setattr(workspaces, "commit", counted("commit", workspaces.commit))
        yield steps


@pytest.mark.parametrize("after", ["relabel", pytest.param("import", marks=pytest.mark.slow)])
def test_a_kill_between_any_two_steps_leaves_all_or_nothing(
    pets: Path, tmp_path: Path, vggflow: Command, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    table = write(
        pets, tmp_path / "s.csv", **{WRONG: "move red", OUT: "exclude", "valid/red/0.png": "move blue"}
    )
    before = state(pets)
    seen: set[str] = set()
    for number in range(1, 40):
        try:
            with killed_at(number, monkeypatch) as steps:
                told = vggflow("-C", pets, "data", "relabel", table)
        except Killed:
            seen.add(steps[-1])
            half = label_changes.unfinished(workspaces.find(pets))
            if half is None:
                if state(pets) == before:
                    continue
                # All was done, and the record of it was being put down.
            elif not half.done:
                refused = vggflow("-C", pets, "validate")
                assert "`vggflow data relabel` finishes it" in refused.err, refused
            if after == "import":
                delivery, new = tmp_path / f"again-{number}", f"train/red/new-{number}.png"
                draw(delivery / new, COLOURS["red"], 90_000 + number)
                told = vggflow("-C", pets, "data", "import", delivery)
                if told.code:  # the commit also changes params.yaml: only who made it sends it
                    assert "`git push` sends all" in told.err, told
                    git(pets, "push", "--quiet")
            told = vggflow("-C", pets, "data", "relabel")
        assert told.code == 0, (number, told)
        done = state(pets)
        assert done != before
        assert len(done) == len(before), number
        assert done["left out"]
        assert git(pets, "status", "--porcelain", "--untracked-files=no") == "", number
        assert label_changes.unfinished(workspaces.find(pets)) is None
        assert vggflow("-C", pets, "data", "relabel", "--undo").code == 0
        assert state(pets) == before, number
        if len(steps) < number:
            break
    assert seen == {"journal", "rename", "params.yaml", "dvc", "commit"}


def test_what_a_colleague_delivered_meanwhile_is_kept(
    pets: Path, tmp_path: Path, vggflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = tmp_path / "bob"
    git(tmp_path, "clone", "--quiet", str(tmp_path / "remote.git"), "bob")
    git(bob, "config", "user.email", "bob@example.org")
    git(bob, "config", "user.name", "bob")
    url = workspaces.find(pets).dvc("remote", "list").split()[1]
    workspaces.find(bob).dvc("remote", "modify", "--local", "local", "url", url)
    table = write(pets, tmp_path / "s.csv", **{WRONG: "move red", OUT: "exclude"})
    before = state(pets)
    with pytest.raises(Killed), monkeypatch.context() as patch:
        # Images have moved, and DVC does not know yet.
        patch.setattr(reconcile, "add", _killed)
        vggflow("-C", pets, "data", "relabel", table)
    draw(tmp_path / "of-bob" / "train" / "red" / "new-of-bob.png", COLOURS["red"], 91_000)
    told = vggflow("-C", bob, "data", "import", tmp_path / "of-bob")
    assert told.code == 0, told
    git(pets, "pull", "--quiet", "--rebase", "--autostash")
    told = vggflow("-C", pets, "data", "relabel")
    assert told.code == 0, told
    assert (pets / "data" / "train" / "red" / "new-of-bob.png").exists()
    assert len(state(pets)) == len(before) and f"data/{WRONG}" not in state(pets)
    git(bob, "pull", "--quiet")
    assert vggflow("-C", bob, "data", "restore").code == 0
    assert state(bob) == state(pets)


def _killed(*_arguments: object) -> None:
    raise Killed


def test_what_others_would_lose_or_nobody_meant_is_refused(
    pets: Path, tmp_path: Path, vggflow: Command
) -> None:
    before = state(pets)
    table = write(pets, tmp_path / "s.csv", **{OUT: "exclude"})
    (pets / "params.yaml").write_text((pets / "params.yaml").read_text() + "# a note\n")
    told = vggflow("-C", pets, "data", "relabel", table)
    assert told.code == 2 and "params.yaml has changes that are not committed" in told.err, told
    git(pets, "checkout", "--quiet", "params.yaml")
    (pets / "data" / OUT).write_bytes(b"another")
    told = vggflow("-C", pets, "data", "relabel", table)
    assert told.code == 2, told
    for arguments in ((), (table, "--undo")):
        told = vggflow("-C", pets, "data", "relabel", *arguments)
        assert told.code == 2 and len(told.err.splitlines()) == 1, told
    assert set(state(pets)) == set(before)


def test_an_image_that_changed_since_is_not_taken_back(pets: Path, tmp_path: Path, vggflow: Command) -> None:
    table = write(pets, tmp_path / "s.csv", **{WRONG: "move red"})
    assert vggflow("-C", pets, "data", "relabel", table, "--no-commit").code == 0
    (moved,) = (pets / "data" / "train" / "red").glob("0-*.png")
    (pets / "data" / "train" / "red" / "3.png").replace(moved)
    before = state(pets)
    told = vggflow("-C", pets, "data", "relabel", "--undo", "--no-commit")
    assert told.code == 2, told
    assert {name: digest for name, digest in state(pets).items() if name in before} == before
