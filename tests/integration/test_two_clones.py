"""Two clones of one git and DVC remote: what either delivers reaches both, and nothing is lost on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import committed_files, deliver, delivery, holds
from tiny import COLOURS, Ran, draw

from vggflow import workspace as workspaces
from vggflow.commands import data, prepare
from vggflow.errors import DataError, UsageError, VggflowError
from vggflow.importing.import_images import ImportOptions
from vggflow.versioning import data_versions, reconcile
from vggflow.workspace import Workspace

Command = Callable[..., Ran]


def test_an_import_into_an_older_folder_keeps_what_a_colleague_delivered(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    deliver(ann, "anns")

    assert holds(ann, "bobs")
    names = committed_files(ann)
    assert len(names) == 36 + 2 + 2
    assert {"train/red/bobs-0.png", "train/red/anns-1.png"} <= names
    assert ann.git("status", "--porcelain", "data.dvc") == ""
    bob.git("pull", "--quiet")
    (said,) = prepare.prepare(bob)
    assert said == "data/ was not what data.dvc says: 2 files brought in, 0 removed, as data.dvc says"
    assert holds(bob, "anns")


def test_what_is_brought_in_is_written_below_the_folder_itself_which_may_be_a_mount(
    both: tuple[Workspace, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    written: list[Path] = []
    copy = shutil.copyfile
    monkeypatch.setattr(
        reconcile.shutil, "copyfile", lambda source, target: written.append(target) or copy(source, target)
    )
    prepare.prepare(ann)
    assert holds(ann, "bobs")
    assert len(written) == 2
    assert all(ann.root / "data" in path.parents for path in written)
    assert not (ann.root / "data" / reconcile.UNFINISHED).exists()


@pytest.mark.slow
def test_a_retraining_and_the_hourly_look_bring_an_older_folder_up_to_date(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    before = data_versions.committed(ann, "data")
    prepare.prepare(ann)

    assert holds(ann, "bobs")
    assert workspaces.status(ann, "data") == "same"
    assert data_versions.committed(ann, "data") == before
    assert ann.git("status", "--porcelain", "data.dvc") == ""


def test_a_folder_deleted_by_accident_is_neither_adopted_nor_trained_without(
    vggflow: Command, both: tuple[Workspace, Workspace]
) -> None:
    ann, _ = both
    before = (ann.root / "data.dvc").read_text()
    shutil.rmtree(ann.root / "data/valid/red")
    with pytest.raises(DataError, match=r"4 files are gone from data/ .* `vggflow data accept`") as caught:
        prepare.prepare(ann)
    assert (caught.value.exit_code, caught.value.retry) == (2, False)
    ran = vggflow("-C", ann.root, "data", "import", delivery(ann.root.parent, "anns"))
    assert (ran.code, "4 files are gone" in ran.err) == (2, True), ran.err
    assert not holds(ann, "anns"), "nothing is copied before that is settled"
    assert (ann.root / "data.dvc").read_text() == before

    restored = vggflow("-C", ann.root, "data", "restore")
    assert restored.code == 0, restored.err
    assert len(list((ann.root / "data/valid/red").iterdir())) == 4
    assert prepare.prepare(ann) == []


@pytest.mark.slow
def test_what_a_person_accepts_as_gone_goes_for_everybody_and_stays_gone(
    vggflow: Command, both: tuple[Workspace, Workspace]
) -> None:
    ann, bob = both
    (ann.root / "data/train/red/0.png").unlink()
    draw(ann.root / "data/train/red/1.png", COLOURS["red"], 77)
    looked = json.loads(vggflow("-C", ann.root, "data", "accept", "--dry-run", "--json").out)
    assert looked[0]["gone"] == ["train/red/0.png", "train/red/1.png"]
    ran = vggflow("-C", ann.root, "data", "accept")
    assert ran.code == 0, ran.err
    assert "data/: 2 gone" in ran.out

    draw(bob.root / "data/train/red/own.png", COLOURS["red"], 78)
    bob.git("pull", "--quiet")
    prepare.prepare(bob)
    assert not (bob.root / "data/train/red/0.png").exists()
    assert (bob.root / "data/train/red/own.png").is_file()
    assert (bob.root / "data/train/red/1.png").read_bytes() == (
        ann.root / "data/train/red/1.png"
    ).read_bytes()
    assert len(data_versions.Cache(bob).listing(data_versions.entry(bob, "data").md5) or {}) == 36  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_picture_moved_to_another_class_is_no_loss(both: tuple[Workspace, Workspace]) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    (ann.root / "data/train/red/0.png").rename(ann.root / "data/train/blue/was red.png")
    (said,) = [line for line in prepare.prepare(ann) if "moved" in line]
    assert "2 files brought in, 0 removed, as data.dvc says; 1 file kept from here" in said
    assert not (ann.root / "data/train/red/0.png").exists()
    assert (ann.root / "data/train/blue/was red.png").is_file()
    assert holds(ann, "bobs")


@pytest.mark.slow
def test_one_name_with_two_pictures_is_refused_before_anything_is_written(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, bob = both
    draw(bob.root / "data/train/red/new.png", COLOURS["red"], 1)
    deliver(bob, "bobs")
    draw(ann.root / "data/train/red/new.png", COLOURS["red"], 2)
    mine = (ann.root / "data/train/red/new.png").read_bytes()
    ann.git("pull", "--quiet")
    with pytest.raises(DataError, match=r"data/train/red/new\.png holds other bytes here"):
        prepare.prepare(ann)
    assert (ann.root / "data/train/red/new.png").read_bytes() == mine
    assert not holds(ann, "bobs")
    (ann.root / "data/train/red/new.png").rename(ann.root / "data/train/red/mine.png")
    prepare.prepare(ann)
    assert holds(ann, "bobs")
    assert (ann.root / "data/train/red/mine.png").read_bytes() == mine


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["an older folder", "a folder with own pictures"])
def test_without_a_memory_an_older_folder_is_updated_and_another_one_loses_nothing(
    both: tuple[Workspace, Workspace], own: bool
) -> None:
    ann, bob = both
    (ann.root / ".vggflow/data-last-seen.json").unlink()
    deliver(bob, "bobs")
    if own:
        draw(ann.root / "data/train/red/own.png", COLOURS["red"], 9)
        (ann.root / "data/train/red/0.png").unlink()
    ann.git("pull", "--quiet")
    (said,) = prepare.prepare(ann)
    assert holds(ann, "bobs")
    assert ("where they parted is not known" in said) == own
    assert (ann.root / "data/train/red/own.png").exists() == own
    assert (ann.root / "data/train/red/0.png").exists()


@pytest.mark.slow
def test_start_weights_are_brought_together_like_images(both: tuple[Workspace, Workspace]) -> None:
    ann, bob = both
    (bob.root / "weights/new.h5").write_bytes(b"numbers")
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    prepare.prepare(ann)
    assert (ann.root / "weights/new.h5").read_bytes() == b"numbers"
    (ann.root / "weights/new.h5").write_bytes(b"others")
    with pytest.raises(DataError, match="1 file is gone from weights/"):
        prepare.prepare(ann)


@pytest.mark.parametrize("way", ["merge", pytest.param("rebase", marks=pytest.mark.slow)])
def test_a_conflict_of_two_deliveries_is_resolved_by_content(
    vggflow: Command, both: tuple[Workspace, Workspace], way: str
) -> None:
    ann, bob = both
    (bob.root / "data/train/blue/0.png").unlink()
    assert vggflow("-C", bob.root, "data", "accept", "--no-commit").code == 0
    deliver(bob, "bobs")
    # As when Bob was first between Ann's look and her push.
    data.import_data(ann, delivery(ann.root.parent, "anns"), ImportOptions(), commit=False)
    ann.git("commit", "--quiet", "--all", "--message", "Data: anns")
    ann.git("pull", "--quiet", "--rebase" if way == "rebase" else "--no-rebase", none=1)

    for arguments in (("status",), ("retrain", "--dry-run"), ("data", "import", bob.root.parent / "anns")):
        ran = vggflow("-C", ann.root, *arguments)
        assert ran.code == 2, ran.err
        assert ran.err.count("\n") == 1, ran.err
    with pytest.raises(UsageError, match="conflict marks"):
        prepare.prepare(ann)
    ran = vggflow("-C", ann.root, "data", "accept")
    assert ran.code == 0, ran.err
    if way == "rebase":
        ann.git("-c", "core.editor=true", "rebase", "--continue")
    else:
        ann.git("commit", "--quiet", "--no-edit")
    ann.git("push", "--quiet")
    assert {"train/red/bobs-0.png", "train/red/anns-0.png"} <= committed_files(ann)
    assert "train/blue/0.png" not in committed_files(ann)
    assert len(committed_files(ann)) == 36 - 1 + 2 + 2
    assert prepare.prepare(ann) == []
    bob.git("pull", "--quiet")
    prepare.prepare(bob)
    assert holds(bob, "anns")


@pytest.mark.slow
def test_a_delivery_that_never_reached_git_survives_going_back_to_the_others_branch(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, bob = both
    data.import_data(ann, delivery(ann.root.parent, "anns"), ImportOptions(), commit=False)
    ann.git("commit", "--quiet", "--all", "--message", "Data: anns")
    deliver(bob, "bobs")
    ann.git("fetch", "--quiet")
    ann.git("reset", "--quiet", "--hard", "origin/main")
    prepare.prepare(ann)
    assert holds(ann, "anns")
    assert holds(ann, "bobs")
    shutil.rmtree(ann.root / "data")
    prepare.prepare(ann)
    assert holds(ann, "anns")


@pytest.mark.slow
def test_a_folder_that_is_gone_altogether_comes_back_with_what_was_not_committed(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, _ = both
    draw(ann.root / "data/train/red/own.png", COLOURS["red"], 9)
    prepare.prepare(ann)
    ann.git("checkout", "--quiet", "data.dvc")
    shutil.rmtree(ann.root / "data")
    prepare.prepare(ann)
    assert (ann.root / "data/train/red/own.png").is_file()


def test_what_a_killed_import_was_writing_is_no_image(both: tuple[Workspace, Workspace]) -> None:
    ann, _ = both
    (ann.root / "data/.importing").mkdir()
    (ann.root / "data/.importing/half").write_bytes(b"\x89PNG")
    assert prepare.prepare(ann) == []
    assert not (ann.root / "data/.importing").exists()


def test_a_folder_behind_a_link_is_refused_in_one_line(both: tuple[Workspace, Workspace]) -> None:
    ann, _ = both
    for tracked in ("data", "weights"):
        (ann.root / tracked).rename(ann.root.parent / "elsewhere")
        (ann.root / tracked).symlink_to("../elsewhere")
        with pytest.raises(DataError, match=rf"{tracked} is a link to \.\./elsewhere: .* move the folder"):
            prepare.prepare(ann)
        with pytest.raises(DataError, match="is a link to"):
            data.import_data(ann, delivery(ann.root.parent, "anns"), ImportOptions())
        (ann.root / tracked).unlink()
        (ann.root.parent / "elsewhere").rename(ann.root / tracked)
    assert reconcile.bring_together(ann, "data") == []


def test_an_import_on_no_branch_is_refused_before_anything_is_copied(
    both: tuple[Workspace, Workspace],
) -> None:
    ann, _ = both
    ann.git("checkout", "--quiet", "--detach")
    with pytest.raises(UsageError, match=r"detached HEAD.*`git switch BRANCH`"):
        deliver(ann, "anns")
    assert not holds(ann, "anns")
    summary, _ = data.import_data(
        ann, delivery(ann.root.parent, "anns"), ImportOptions(dry_run=True), commit=True
    )
    assert summary.copied == 2


@pytest.mark.slow
def test_an_import_pushes_no_commit_but_deliveries(both: tuple[Workspace, Workspace]) -> None:
    ann, bob = both
    (ann.root / "params.yaml").write_text((ann.root / "params.yaml").read_text() + "# half done\n")
    ann.git("commit", "--quiet", "--all", "--message", "Try another seed")
    with pytest.raises(
        UsageError, match=r"committed here .* not pushed: [0-9a-f]+ 'Try another seed' would go"
    ):
        deliver(ann, "anns")
    bob.git("fetch", "--quiet")
    assert bob.git("rev-list", "--count", "HEAD..origin/main").strip() == "0"
    assert "train/red/anns-0.png" in committed_files(ann)
    assert "1 commit of data not on origin yet: `git push` sends them to the others" in prepare.prepare(ann)
    with pytest.raises(UsageError, match="Try another seed"):
        deliver(ann, "anns")
    ann.git("push", "--quiet")
    deliver(ann, "anns")
    assert prepare.prepare(ann) == []


def test_an_import_behind_its_remote_says_to_pull_first(both: tuple[Workspace, Workspace]) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    with pytest.raises(UsageError, match="main lacks 1 commit of origin: `git pull`"):
        deliver(ann, "anns")
    assert not holds(ann, "anns")


@pytest.mark.slow
def test_a_push_that_came_second_says_what_to_do(both: tuple[Workspace, Workspace]) -> None:
    ann, bob = both
    hook = ann.root / ".git/hooks/post-commit"
    hook.write_text(f"#!/bin/sh\nunset GIT_DIR GIT_INDEX_FILE; git -C {bob.root} push --quiet\n")
    hook.chmod(0o755)
    bob.git("commit", "--quiet", "--allow-empty", "--message", "Meanwhile")
    with pytest.raises(VggflowError, match="main moved on origin meanwhile; `git pull`"):
        deliver(ann, "anns")
    hook.unlink()
    ann.git("pull", "--quiet", "--no-rebase")
    deliver(ann, "anns")
    assert ann.git("rev-list", "--count", "origin/main..HEAD").strip() == "0"
