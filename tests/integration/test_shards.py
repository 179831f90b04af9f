"""Images in shards, as a person works with them: packed, delivered into, trained from, relabelled, unpacked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import committed_files, deliver, delivery
from tiny import Ran, draw

from vggflow import files
from vggflow.commands import data, data_pack, evaluate, prepare, train, validate
from vggflow.data.contents import Contents
from vggflow.data.places import shards
from vggflow.importing import packing
from vggflow.processes.locks import exclusive
from vggflow.versioning import packed_images
from vggflow.workspace import Workspace, find

Command = Callable[..., Ran]


def loose(root: Path) -> list[Path]:
    return [path for path in (root / "data").rglob("*.png") if path.is_file()]


def test_folder_and_shards_give_the_same_manifest_and_the_same_model(
    vggflow: Command, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed"
    shutil.copytree(workspace, packed, symlinks=True)
    assert vggflow("-C", packed, "data", "pack", "--shard-mb", "1", "--no-commit").code == 0
    assert not loose(packed) and len(shards(packed / "data")) == 3
    found = []
    for number, root in enumerate((workspace, packed)):
        # Nothing of one is kept for the other.
        monkeypatch.setenv("VGGFLOW_STATE", str(tmp_path / f"state-{number}"))
        here = find(root)
        validate.validate(here)
        train.train(here)
        evaluate.evaluate(here)
        found.append(
            (
                files.read_json(root / "validation/manifest.json"),
                files.read_json(root / "validation/training.json"),
                (root / "model/model.keras").read_bytes(),
                files.read_json(root / "evaluation/metrics.json"),
            )
        )
    assert found[0] == found[1]


def test_what_is_packed_is_versioned_and_comes_back_as_it_was(
    vggflow: Command,
    both: tuple[Workspace, Workspace],
) -> None:
    ann, bob = both
    before = {path.relative_to(ann.root): path.read_bytes() for path in loose(ann.root)}
    ran = vggflow("-C", ann.root, "data", "pack")
    assert ran.code == 0 and ran.out.strip() == "36 images packed into 3 shards", ran.err
    assert len(committed_files(ann)) == 3
    assert ann.git("status", "--porcelain", "data.dvc") == ""
    bob.git("pull", "--quiet")
    prepare.prepare(bob)
    assert not loose(bob.root) and shards(bob.root / "data")
    ran = vggflow("-C", bob.root, "data", "unpack", "--json")
    assert json.loads(ran.out)["images"] == 36
    assert {path.relative_to(bob.root): path.read_bytes() for path in loose(bob.root)} == before


def test_a_colleagues_delivery_of_files_meets_what_was_packed_and_nothing_is_lost(
    both: tuple[Workspace, Workspace],
    vggflow: Command,
) -> None:
    ann, bob = both
    deliver(bob, "bobs")
    ann.git("pull", "--quiet")
    assert vggflow("-C", ann.root, "data", "pack").code == 0
    names = set(Contents(ann.root / "data").members["path"])
    assert len(names) == 38 and "train/red/bobs-0.png" in names
    # Bob, who has the files still, delivers more before he hears of it.
    more = delivery(bob.root.parent, "more")
    bob.git("pull", "--quiet")
    ran = vggflow("-C", bob.root, "data", "import", more)
    assert ran.code == 0, ran.err
    assert "2 images packed into 1 shard" in ran.err
    assert not loose(bob.root)
    assert set(Contents(bob.root / "data").members["path"]) == names | {
        "train/red/more-0.png",
        "train/red/more-1.png",
    }
    # The same delivery once more changes nothing.
    again = vggflow("-C", bob.root, "data", "import", more, "--json")
    assert json.loads(again.out)["copied"] == 0 and len(committed_files(bob)) == 4


def test_an_import_into_shards_keeps_an_image_where_it_is_and_refuses_other_bytes(
    vggflow: Command, workspace: Path, tmp_path: Path
) -> None:
    image = next(path for path in sorted(loose(workspace)) if "/train/" in str(path))
    name = image.relative_to(workspace / "data")
    content = image.read_bytes()
    assert vggflow("-C", workspace, "data", "pack", "--no-commit").code == 0
    coming = tmp_path / "delivery" / name
    coming.parent.mkdir(parents=True)
    coming.write_bytes(content)
    ran = vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit", "--json")
    assert json.loads(ran.out)["copied"] == 0, ran.err
    other = next(path for path in Contents(workspace / "data").members["path"] if path != str(name))
    coming.write_bytes(Contents(workspace / "data").place(other).read() + b"\0")
    ran = vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit")
    assert ran.code == 2 and "is there already with other bytes" in ran.err


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_what_a_kill_leaves_of_packing_is_no_loss_to_anybody_and_the_next_call_ends_it(
    both: tuple[Workspace, Workspace],
    vggflow: Command,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann, _ = both
    if what == "pack":
        packing.pack(ann.root / "data", 10**9)
    else:
        assert vggflow("-C", ann.root, "data", "pack").code == 0
        members = Contents(ann.root / "data").members
        packing.take_out(ann.root / "data", members["path"][members["shard"] == 1])
    # Files are gone that data.dvc names, but no image: nobody is asked about it.
    with monkeypatch.context() as without:
        without.setattr(packed_images, "missed", lambda folder, gone, cache: dict(gone))
        ran = vggflow("-C", ann.root, "data", what)
        assert ran.code == 2 and "gone from data/" in ran.err
    ran = vggflow("-C", ann.root, "data", what)
    assert ran.code == 0, ran.err
    assert len(committed_files(ann)) == (3 if what == "pack" else 36)


def test_an_image_in_a_shard_moves_to_the_class_that_a_person_decided_on_and_back(
    both: tuple[Workspace, Workspace],
    vggflow: Command,
    tmp_path: Path,
) -> None:
    ann, _ = both
    assert vggflow("-C", ann.root, "data", "pack").code == 0
    before = Contents(ann.root / "data").members.set_index("path")["sha256"].to_dict()
    path = next(each for each in before if each.startswith("train/red/"))
    table = tmp_path / "table.csv"
    table.write_text(f"path,sha256,decision\n{path},{before[path]},move blue\n")
    ran = vggflow("-C", ann.root, "data", "relabel", table)
    assert ran.code == 0, ran.err
    contents = Contents(ann.root / "data")
    (moved,) = (name for name in contents.sizes() if contents.place(name).sha256() == before[path])
    assert moved.startswith("train/blue/") and not contents.has(path)
    assert len(contents.sizes()) == 36
    ran = vggflow("-C", ann.root, "data", "relabel", "--undo")
    assert ran.code == 0, ran.err
    contents = Contents(ann.root / "data")
    assert {name: contents.place(name).sha256() for name in contents.sizes()} == before


def test_an_import_tells_of_shards_where_files_become_too_many(
    vggflow: Command, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "delivery/train/red/new.png", (200, 30, 30), 1)
    monkeypatch.setattr(data, "MANY_FILES", 36)
    ran = vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit")
    assert "data/ holds 37 files" in ran.err and "`vggflow data pack`" in ran.err
    monkeypatch.setattr(data, "MANY_FILES", 37)
    assert "pack" not in vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit").err


def test_what_comes_while_a_stage_reads_the_images_stays_files_until_the_next_import(
    vggflow: Command, workspace: Path, tmp_path: Path
) -> None:
    assert vggflow("-C", workspace, "data", "pack", "--no-commit").code == 0
    draw(tmp_path / "delivery/train/red/new.png", (200, 30, 30), 1)
    with exclusive(workspace / ".vggflow/stage.lock", "a stage"):
        ran = vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit")
    assert ran.code == 0 and "a stage is at work on the images" in ran.err
    assert [path.name for path in loose(workspace)] == ["new.png"]
    assert vggflow("-C", workspace, "data", "import", tmp_path / "delivery", "--no-commit").code == 0
    assert not loose(workspace)


def test_a_sample_and_the_sizes_beforehand_know_what_is_packed(vggflow: Command, workspace: Path) -> None:
    plain = vggflow("-C", workspace, "data", "sample", "--per-class", "2")
    taken = {path.relative_to(workspace) for path in (workspace / "data/sample").rglob("*.png")}
    assert vggflow("-C", workspace, "data", "pack", "--no-commit").code == 0
    packed = vggflow("-C", workspace, "data", "sample", "--per-class", "2")
    assert packed.out == plain.out and taken
    assert {path.relative_to(workspace) for path in (workspace / "data/sample").rglob("*.png")} == taken


@pytest.mark.parametrize("name", ["data/test", "data", "data/test/red", "data/test/red/0.png"])
def test_a_folder_whose_images_are_packed_is_predicted_like_one_of_files(
    vggflow: Command, evaluated: Path, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    model = root / "model/model.keras"
    plain = vggflow("-C", root, "predict", root / name, "--model", model, "--json")
    assert plain.code == 0, plain.err
    assert vggflow("-C", root, "data", "pack", "--no-commit").code == 0
    packed = vggflow("-C", root, "predict", root / name, "--model", model, "--json")
    assert json.loads(packed.out) == json.loads(plain.out)
    ran = vggflow("-C", root, "predict", root / name, "--model", model, "-o", tmp_path / "out.csv")
    assert ran.code == 0, ran.err
    assert (tmp_path / "out.csv").read_text().count("\n") == len(json.loads(plain.out)) + 1


def test_a_packed_image_is_explained_by_the_path_of_its_file(
    vggflow: Command, evaluated: Path, tmp_path: Path
) -> None:
    root = tmp_path / "tiny"
    shutil.copytree(evaluated, root, symlinks=True)
    image, model = root / "data/test/red/0.png", root / "model/model.keras"
    plain = vggflow("-C", root, "explain", image, "--model", model, "-o", tmp_path / "plain.png")
    assert vggflow("-C", root, "data", "pack", "--no-commit").code == 0
    packed = vggflow("-C", root, "explain", image, "--model", model, "-o", tmp_path / "packed.png")
    assert plain.code == packed.code == 0, packed.err
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "packed.png").read_bytes()
    assert vggflow("-C", root, "explain", root / "data/test/red/none.png", "--model", model).code == 2


def test_packing_says_what_is_wrong_in_one_line(vggflow: Command, workspace: Path) -> None:
    assert vggflow("-C", workspace, "data", "pack", "--shard-mb", "0").code == 2
    assert vggflow("-C", workspace, "data", "pack", "--no-commit").code == 0
    shard = shards(workspace / "data")[0]
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:300])
    ran = vggflow("-C", workspace, "data", "unpack", "--no-commit")
    assert ran.code != 0 and len(ran.err.strip().splitlines()) == 1
    assert data_pack.SHARD_MB == 512
