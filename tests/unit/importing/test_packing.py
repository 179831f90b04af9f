"""Images packed into shards and out of them: the same images whatever happens on the way."""

import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vggflow.data import manifest as manifests
from vggflow.data import shards
from vggflow.data.contents import Contents, Place
from vggflow.data.places import shards as shards_in
from vggflow.errors import DataError, VggflowError
from vggflow.gate import shard_scan
from vggflow.gate.scan import scan
from vggflow.importing import packing
from vggflow.importing.packing import pack, take_out, unpack

SMALL = 4_000


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


NAMES = (
    "train/cats/cat.0.jpg",
    "train/cats/cat.1.jpg",
    "train/cats/100% sure.png",
    "train/dogs/ñandú 犬.png",
    'train/dogs/a,"b"\nc.png',
    "train/dogs/deep/er/x.png",
    f"train/dogs/{'long' * 50}.png",
    "valid/cats/1.png",
    "valid/dogs/1.png",
    "test/unknown/1.png",
    "train/cats/notes.txt",
)


@pytest.fixture
def data(tmp_path):
    for number, name in enumerate(NAMES):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"notes" if name.endswith(".txt") else picture(number))
    return tmp_path / "data"


def held(data):
    """What the data folder holds, whatever it lies in: path to hash."""
    contents = Contents(data)
    # What was being written when a kill came lies where no look at the data finds it.
    loose = [name for name in files(data) if not name.endswith(".tar") and not name.startswith(".importing/")]
    names = {*contents.members["path"], *loose}
    return {name: hashlib.sha256(contents.place(name).read()).hexdigest() for name in names}


def files(data):
    return {
        path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()
    }


def test_packed_and_unpacked_the_folder_is_as_before_and_the_manifest_the_same_all_along(data):
    before, table = files(data), scan(data)
    made = pack(data, SMALL)
    assert made.images == len(NAMES) and len(made.shards) == len(shards_in(data)) > 3
    assert set(files(data)) == {f"{name.partition('-')[0]}/{name}" for name in made.shards}
    packed = scan(data)
    assert manifests.digest(packed) == manifests.digest(table)
    assert manifests.content_digest(packed) == manifests.content_digest(table)
    unpack(data)
    assert files(data) == before


def test_equal_images_make_equal_shards_wherever_and_whenever_they_are_packed(data, tmp_path):
    other = tmp_path / "elsewhere" / "data"
    shutil.copytree(data, other, copy_function=shutil.copyfile)
    pack(data, SMALL)
    pack(other, SMALL)
    assert files(data) == files(other)


def test_other_tools_find_a_sample_of_its_own_for_each_image(data):
    pack(data, 10**9)
    (shard,) = (data / "train").glob("*.tar")
    with tarfile.open(shard) as taped:
        members, names = taped.getmembers(), taped.getnames()
    assert members[0].name == "__index__"
    # WebDataset's rule: the key ends at the first dot of the name.
    keys = ["/".join([*name.split("/")[:-1], name.split("/")[-1].split(".")[0]]) for name in names[1:]]
    assert len(set(keys)) == len(keys) == 8
    assert {key.split("/")[1] for key in keys} == {"cats", "dogs"}
    assert all((member.mtime, member.uid, member.mode) == (0, 0, 0o644) for member in members)


def test_a_file_goes_before_a_member_and_packing_replaces_that(data):
    pack(data, 10**9)
    path = data / "train/cats/cat.0.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture(99))
    assert Contents(data).place("train/cats/cat.0.jpg") == Place(str(path))
    expected = held(data)
    assert expected["train/cats/cat.0.jpg"] == hashlib.sha256(picture(99)).hexdigest()
    pack(data, 10**9)
    assert held(data) == expected and not path.exists()
    assert len(shards_in(data)) == 3


def test_a_delivery_makes_new_shards_and_leaves_the_others_alone(data):
    pack(data, 10**9)
    before = files(data)
    (data / "train/cats").mkdir()
    (data / "train/cats/new.png").write_bytes(picture(50))
    made = pack(data, 10**9)
    assert made.images == 1 and len(made.shards) == 1
    assert {name: content for name, content in files(data).items() if name in before} == before
    merged = pack(data, 10**9, merge=True)
    assert merged.images == 9 and len(shards_in(data)) == 3


class KilledError(Exception):
    pass


def killed_at(step, work):
    """Ends some work before its nth change of the disk; whether it got so far."""
    done = 0

    def counting(honest):
        def acted(*args, **more):
            nonlocal done
            done += 1
            if done == step:
                raise KilledError
            return honest(*args, **more)

        return acted

    with pytest.MonkeyPatch.context() as patched:
        for name in ("unlink", "rmdir", "replace", "write_bytes"):
            patched.setattr(Path, name, counting(getattr(Path, name)))
        try:
            work()
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("what", ["pack", "repack", "unpack", "take out"])
def test_a_kill_between_any_two_writes_loses_nothing_and_the_next_run_ends_it(data, tmp_path, what):
    if what != "pack":
        pack(data, SMALL)
    if what == "repack":
        for name in NAMES[:3]:
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_bytes(picture(77))
    moved = [NAMES[0], NAMES[3]]
    work = {
        "pack": lambda at: pack(at, SMALL),
        "repack": lambda at: pack(at, SMALL, merge=True),
        "unpack": unpack,
        "take out": lambda at: take_out(at, moved),
    }[what]
    expected, number = held(data), 0
    whole = tmp_path / "whole"
    shutil.copytree(data, whole)
    work(whole)
    while True:
        number += 1
        here = tmp_path / f"killed-{number}"
        shutil.copytree(data, here)
        killed = killed_at(number, lambda here=here: work(here))
        assert held(here) == expected, number
        work(here)
        assert held(here) == expected, number
        if what == "unpack":
            assert files(here) == files(whole)
        if what in ("pack", "repack"):
            assert not [name for name in files(here) if not name.endswith(".tar")]
        if not killed:
            break
    assert number > 10


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "pack", "merge", "unpack", "take out"]),
            st.integers(0, len(NAMES) - 2),
            st.integers(0, 3),
            st.none() | st.integers(1, 40),
        ),
        max_size=8,
    )
)
def test_any_order_of_deliveries_packing_and_kills_shows_the_newest_bytes_of_each_image(
    tmp_path_factory, steps
):
    data, expected = tmp_path_factory.mktemp("orders") / "data", {}
    for split, name in (("train", "cats"), ("valid", "cats")):
        (data / split / name).mkdir(parents=True)
    for kind, number, seed, kill in steps:
        if kind == "write":
            path = data / NAMES[number]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(seed))
            expected[NAMES[number]] = hashlib.sha256(picture(seed)).hexdigest()
            continue
        work = {
            "pack": lambda: pack(data, SMALL),
            "merge": lambda: pack(data, SMALL, merge=True),
            "unpack": lambda: unpack(data),
            "take out": lambda number=number: take_out(data, NAMES[: number + 1]),
        }[kind]
        killed_at(kill or 10**6, work)
        assert held(data) == expected, kind


def damage(shard, at, content=b"\xff" * 8):
    with shard.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_a_damaged_member_is_a_row_with_its_error_and_costs_no_other(data, tmp_path):
    pack(data, 10**9)
    whole = scan(data, cache=tmp_path / "cache")
    place = Contents(data).place("train/cats/cat.1.jpg")
    damage(Path(place.file), place.offset + place.size // 2)
    found = scan(data, cache=tmp_path / "cache")
    damaged = found[found["error"].notna() & (found["kind"] == "image")]
    assert damaged["path"].tolist() == ["train/cats/cat.1.jpg"]
    assert damaged["error"].item() == f"damaged in {Path(place.file).name}: not the bytes that were packed"
    assert len(found) == len(whole)
    with pytest.raises(DataError, match=r"cat\.1\.jpg is damaged: not the bytes that were packed"):
        unpack(data)
    assert Path(place.file).exists()


def test_a_shard_that_ends_early_names_each_image_that_is_lost(data):
    pack(data, 10**9)
    (shard,) = (data / "train").glob("*.tar")
    index = shards.read_index(shard)
    last = index.iloc[-1]
    os.truncate(shard, int(last["offset"]) + 5)
    found = scan(data).set_index("path")
    assert found.loc[last["path"], "error"] == "the shard ends before the end of this image"
    assert found["error"].notna().sum() == 2  # and notes.txt


@pytest.mark.parametrize("at", [0, 600])
def test_a_shard_whose_list_is_damaged_is_refused_and_tells_what_is_lost(data, at):
    pack(data, 10**9)
    (shard,) = (data / "train").glob("*.tar")
    damage(shard, at)
    with pytest.raises(DataError, match="its list of images can't be read") as refused:
        scan(data)
    assert shard.name in str(refused.value) and "\n" not in str(refused.value)
    if at == 600:
        assert "lost are 8 images at least, from train/cats/100% sure.png to train/dogs/" in str(
            refused.value
        )


def test_a_path_that_leads_out_of_the_split_is_refused(data):
    for path in ("train/../../x.png", "/etc/x.png", "valid/cats/x.png", "train/x.png", "train//x.png"):
        place = Place(str(data / NAMES[0]))
        content = place.read()
        shard = shards.write(
            data, "train", [shards.Packed(path, place, len(content), hashlib.sha256(content).hexdigest())]
        )
        with pytest.raises(DataError, match="it names a path out of its split"):
            unpack(data)
        shard.unlink()
    assert not (data.parent.parent / "x.png").exists()


def test_two_shards_with_other_bytes_under_one_path_are_refused_until_a_file_decides(data):
    pack(data, 10**9)
    (data / "train/cats").mkdir()
    place = data.parent / "other.png"
    place.write_bytes(picture(60))
    content = picture(60)
    packed = shards.Packed(NAMES[0], Place(str(place)), len(content), hashlib.sha256(content).hexdigest())
    shards.write(data, "train", [packed])
    with pytest.raises(
        DataError, match=r"cat\.0\.jpg lies in train-\w+.tar and train-\w+.tar with different bytes"
    ):
        scan(data)
    (data / NAMES[0]).write_bytes(picture(61))
    pack(data, 10**9)
    assert held(data)[NAMES[0]] == hashlib.sha256(picture(61)).hexdigest()


def test_an_image_that_changes_while_it_is_packed_is_refused_and_stays(data, monkeypatch):
    honest = packing.digest

    def changed(place):
        answer = honest(place)
        if place.file.endswith("cat.0.jpg"):
            Path(place.file).write_bytes(picture(70))
        return answer

    monkeypatch.setattr(packing, "digest", changed)
    with pytest.raises(
        DataError, match=r"cat\.0\.jpg changed while it was packed: run the same command again"
    ):
        pack(data, 10**9)
    assert (data / NAMES[0]).read_bytes() == picture(70)


def test_a_full_disk_is_one_line_and_costs_nothing(data, monkeypatch):
    before = files(data)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "_append", full)
    with pytest.raises(VggflowError, match=r"no room on the disk for .*train-.*tar: make some"):
        pack(data, SMALL)
    assert files(data) == before


def test_a_shard_that_was_seen_is_not_looked_at_again_whatever_its_times_say(data, tmp_path, monkeypatch):
    pack(data, 10**9)
    first, seen = scan(data, cache=tmp_path / "cache"), []
    for shard in shards_in(data):
        # As a checkout by DVC leaves it: another file of the same bytes.
        copy = shard.with_name("copy")
        shutil.copyfile(shard, copy)
        copy.replace(shard)
    second = scan(data, lambda done, total: seen.append(done), tmp_path / "cache")
    assert not seen and manifests.content_digest(first) == manifests.content_digest(second)
    (data / "train/cats").mkdir()
    (data / "train/cats/new.png").write_bytes(picture(50))
    pack(data, 10**9)
    third = scan(data, lambda done, total: seen.append(done), tmp_path / "cache")
    assert len(seen) == 1 and len(third) == len(first) + 1


def test_a_folder_that_cant_be_changed_is_one_line_and_costs_no_image(data, monkeypatch):
    expected = held(data)

    def refused(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(
            VggflowError, match=r".+ can't be changed: Permission denied; no image is lost: mend that"
        ):
            pack(data, 10**9)
    assert held(data) == expected
    pack(data, 10**9)
    assert held(data) == expected and not (data / "train/cats").exists()


def test_images_of_many_new_shards_are_looked_at_in_their_order_whatever_the_batches(data):
    pack(data, SMALL)
    indexes = {shard: shards.read_index(shard) for shard in shards_in(data)}
    members = shard_scan._Members(indexes)
    one_by_one = [members[number] for number in range(len(members))]
    assert [place.name for place in one_by_one] == [
        path for index in indexes.values() for path in index["path"]
    ]
    for size in (1, 2, 3, 5, len(members), len(members) + 3):
        batches = [members[start : start + size] for start in range(0, len(members), size)]
        assert [place for batch in batches for place in batch] == one_by_one
    assert members[5:5] == [] and len(shard_scan._Members({})) == 0


def test_progress_is_told_from_the_first_image_read_to_the_last_one_packed(data):
    told = []
    done = pack(data, SMALL, lambda *numbers: told.append(numbers))
    assert told[0] == (0, done.images) and told[-1] == (done.images, done.images)
    assert told == sorted(told) and len(told) == done.images + len(done.shards)
