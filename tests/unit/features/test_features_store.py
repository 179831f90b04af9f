"""The feature cache on disk, without a network."""

import errno
import os
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vggflow import files
from vggflow.errors import VggflowError
from vggflow.features import limit
from vggflow.features import store as features
from vggflow.features.store import Kind, Store, Writer

KIND = Kind("block3_pool", (2, 2, 3), "float32", "network", "64 px", "tensorflow")


def rows(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start * 12, (start + count) * 12, dtype=np.float32).reshape(count, 2, 2, 3)


def names(count: int, start: int = 0) -> list[str]:
    return [f"hash{number}" for number in range(start, start + count)]


def write(store: Store, images: list[str], content: np.ndarray) -> None:
    """Writes one shard."""
    with Writer(store, images, len(images)) as writer:
        for row in content:
            writer.add(row[None])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path, KIND)
    write(store, names(4), rows(4))
    write(store, names(3, 4), rows(3, 4))
    return store


@pytest.mark.parametrize(
    "change",
    [
        {"cut": "block4_pool"},
        {"shape": (2, 3, 2)},
        {"dtype": "float16"},
        {"network": "other weights"},
        {"reading": "65 px"},
        {"arithmetic": "jax"},
    ],
)
def test_every_part_of_the_kind_changes_the_key(change):
    assert replace(KIND, **change).key() != KIND.key()
    assert replace(KIND).key() == KIND.key()


def test_rows_come_back_in_any_order_across_shards(store):
    opened = Store(store.folder.parent.parent, KIND)
    assert opened.missing(names(7)) == []
    stored = opened.rows(names(7))
    np.testing.assert_array_equal(stored.gather(np.array([6, 0, 5, 3])), rows(7)[[6, 0, 5, 3]])


def test_only_images_without_features_are_missing_and_each_once(store):
    assert store.missing(["hash9", "hash1", "hash9", "hash8"]) == ["hash9", "hash8"]


def test_a_damaged_shard_is_dropped_and_its_images_are_missing(store, tmp_path):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    content = bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(bytes(content))
    opened = Store(tmp_path, KIND)
    assert opened.missing(names(7)) == names(4)
    assert not shard.path.exists()


def test_a_listing_with_other_images_than_were_written_is_not_trusted(store, tmp_path):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    shard.listing.write_text(shard.listing.read_text().replace("hash0", "hashX"))
    assert Store(tmp_path, KIND).missing(["hashX"]) == ["hashX"]


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_half_a_shard_does_not_exist(store, tmp_path, suffix):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    shard.path.with_suffix(suffix).unlink()
    assert Store(tmp_path, KIND).missing(names(7)) == names(4)


def test_rows_are_read_from_the_file_not_into_memory(store):
    store.missing(names(7))
    assert all(isinstance(array, np.memmap) for array in store.rows(names(7))._arrays)


def test_bfloat16_comes_back_as_it_was_also_from_joined_shards(tmp_path):
    kind = replace(KIND, dtype="bfloat16")
    # Neither in 16 bits of another kind nor as a number that all formats share would these survive.
    content = (rows(7) * 1.01e30).astype(kind.numbers)
    for start in range(7):
        write(Store(tmp_path, kind), names(1, start), content[start : start + 1])
    opened = Store(tmp_path, kind)
    assert opened.missing(names(7)) == []
    opened.merge()
    for each in (opened, Store(tmp_path, kind)):
        assert each.missing(names(7)) == []
        found = each.rows(names(7)).gather(np.arange(7))
        assert found.dtype == kind.numbers
        np.testing.assert_array_equal(found, content)
    (shard,) = opened.folder.glob("*.npy")
    assert np.load(shard).dtype == np.uint16
    assert kind.row_bytes == 24


def test_a_shard_of_features_too_large_for_float16_stays_finite(tmp_path):
    half = Store(tmp_path, replace(KIND, dtype="float16"))
    write(half, ["a"], np.full((1, 2, 2, 3), 1e6, np.float32))
    assert half.missing(["a"]) == []
    assert np.isfinite(half.rows(["a"]).gather(np.array([0]))).all()


def test_full_shards_hold_whole_batches(tmp_path):
    large = Store(tmp_path, replace(KIND, shape=(28, 28, 256)))
    assert large.rows_per_shard(32) == 64
    assert large.rows_per_shard(5) % 5 == 0
    assert Store(tmp_path, KIND).rows_per_shard(32) == 256
    assert Store(tmp_path, replace(KIND, shape=(4096, 4096, 3))).rows_per_shard(32) == 32


def test_eviction_removes_what_was_not_used_for_longest_until_it_fits(tmp_path):
    kinds = [replace(KIND, network=name) for name in ("old", "middle", "new")]
    for age, kind in zip((300, 200, 100), kinds, strict=True):
        store = Store(tmp_path, kind)
        write(store, names(4), rows(4))
        for shard in features.shards(store.folder):
            used = shard.listing.stat().st_mtime - age
            os.utime(shard.listing, (used, used))
    one = limit.contents(tmp_path)[0].size_bytes
    assert limit.evict(tmp_path, 2 * one) == one
    assert [entry.kind.network for entry in limit.contents(tmp_path)] == ["new", "middle"]


def test_looking_for_features_saves_them_from_eviction(tmp_path):
    stores = [Store(tmp_path, replace(KIND, network=name)) for name in ("first", "second")]
    for age, store in zip((300, 200), stores, strict=True):
        write(store, names(4), rows(4))
        (shard,) = features.shards(store.folder)
        used = shard.listing.stat().st_mtime - age
        os.utime(shard.listing, (used, used))
    stores[0].missing(names(1))
    one = limit.contents(tmp_path)[0].size_bytes
    limit.evict(tmp_path, one)
    assert [entry.kind.network for entry in limit.contents(tmp_path)] == ["first"]


def test_a_kind_that_is_removed_goes_whole_and_takes_nothing_of_another(tmp_path):
    stores = [Store(tmp_path, replace(KIND, network=name)) for name in ("goes", "stays")]
    for age, store, images in (
        (100, stores[0], names(4)),
        (50, stores[1], names(2)),
        (200, stores[1], names(4)[2:]),
    ):
        write(store, images, rows(len(images)))
        shard = next(shard for shard in features.shards(store.folder) if shard.images == tuple(images))
        used = shard.listing.stat().st_mtime - age
        os.utime(shard.listing, (used, used))
    limit.remove(tmp_path, [stores[0].kind])
    assert [(entry.kind.network, entry.images) for entry in limit.contents(tmp_path)] == [("stays", 4)]
    assert stores[0].missing(names(4)) == names(4)


def test_nothing_used_since_the_start_is_evicted(store, tmp_path):
    assert limit.evict(tmp_path, 0, unused_since=0.0) == 0
    assert limit.evict(tmp_path, 0) > 0


def test_what_a_killed_process_left_is_removed_after_a_while(store, tmp_path):
    left = [store.folder / ".half.npy.abc.npy", store.folder / "without-listing.npy"]
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    limit.evict(tmp_path, 10**9)
    assert not any(path.exists() for path in left)
    assert store.missing(names(7)) == []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read for their checksum."""
    found: list[str] = []
    sha256 = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: found.append(path.name) or sha256(path))
    return found


def test_a_shard_is_read_for_its_checksum_once_and_again_where_its_file_is_another(store, tmp_path, read):
    assert Store(tmp_path, KIND).missing(names(7)) == []
    assert read == [], "what wrote them knew their checksums"
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    before, content = shard.path.stat(), bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(content)
    os.utime(shard.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Store(tmp_path, KIND).missing(names(7)) == names(4)
    assert read == [shard.path.name]


@pytest.mark.parametrize("left", ["{", "[1]", '{"x": 1}'])
def test_shards_that_nobody_remembers_are_read_by_the_first_who_comes(store, tmp_path, read, left):
    (store.folder / features.CHECKED).write_text(left)
    for _ in range(2):
        assert Store(tmp_path, KIND).missing(names(7)) == []
    assert len(read) == 2


def test_a_disk_without_room_for_what_was_checked_costs_reading_and_no_training(store, tmp_path, monkeypatch):
    (store.folder / features.CHECKED).unlink()

    def full(path: Path, _content: object) -> None:
        raise VggflowError(f"no room on the disk for {path}: make some, then run the same command again")

    monkeypatch.setattr(files, "write_json", full)
    assert Store(tmp_path, KIND).missing(names(7)) == []


def test_a_shard_that_changes_while_it_is_read_is_read_again(store, tmp_path, monkeypatch):
    (store.folder / features.CHECKED).unlink()
    sha256 = files.sha256

    def changed_meanwhile(path: Path) -> str:
        found = sha256(path)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return found

    monkeypatch.setattr(files, "sha256", changed_meanwhile)
    Store(tmp_path, KIND).missing(names(7))
    monkeypatch.setattr(files, "sha256", sha256)
    assert Store(tmp_path, KIND).missing(names(7)) == names(7)


def test_a_listing_that_names_other_images_is_no_shard_however_its_file_looks(store, tmp_path):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    content = files.read_json(shard.listing)
    files.write_json(shard.listing, content | {"images": names(4)[::-1]})
    assert Store(tmp_path, KIND).missing(names(4)) == names(4)


def test_a_file_is_what_numpy_would_have_written(store):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    assert np.load(shard.path).tobytes() == rows(4).tobytes()


@pytest.mark.parametrize("last", [False, True], ids=["of the first shard", "of the last shard"])
def test_a_disk_that_is_full_at_the_end_of_a_shard_is_told_and_leaves_no_half(tmp_path, monkeypatch, last):
    store, sync, due = Store(tmp_path, KIND), files._sync, 2 if last else 1
    synced: list[Path] = []

    def full(path: Path) -> None:
        if path.suffix == ".npy":
            synced.append(path)
            if len(synced) == due:
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(VggflowError, match="no room on the disk"), Writer(store, names(4), 2) as writer:
        writer.add(rows(4))
    assert len(list(store.folder.glob("*.npy"))) == due - 1
    assert not list(store.folder.glob(".*.npy"))
    assert Store(tmp_path, KIND).missing(names(4)) == names(4)[2 * (due - 1) :]


def test_rows_that_are_digested_beside_the_writing_have_the_checksum_of_their_file(tmp_path):
    kind = replace(KIND, shape=(64, 1024))
    content = np.random.default_rng(0).normal(size=(12, *kind.shape)).astype(np.float32)
    assert content[0].nbytes >= features.LEAST_FOR_A_THREAD
    store = Store(tmp_path, kind)
    with Writer(store, names(12), 5) as writer:
        for start in range(0, 12, 3):
            writer.add(content[start : start + 3])
    (store.folder / features.CHECKED).unlink()  # so that they are read
    again = Store(tmp_path, kind)
    assert again.missing(names(12)) == []
    np.testing.assert_array_equal(again.rows(names(12)).gather(np.arange(12)), content)


def test_a_shard_that_was_not_finished_leaves_nothing(tmp_path):
    store = Store(tmp_path, KIND)
    with pytest.raises(KeyboardInterrupt), Writer(store, names(4), 2) as writer:
        for row in rows(3):
            writer.add(row[None])
        raise KeyboardInterrupt
    assert store.missing(names(4)) == names(2, 2)
    assert len(list(store.folder.glob("*.npy"))) + len(list(store.folder.glob(".*"))) == 1


def test_many_small_shards_become_one_that_holds_the_same(tmp_path):
    store = Store(tmp_path, KIND)
    for start in range(0, 60, 3):
        write(store, names(3, start), rows(3, start))
    write(store, ["hash1"], rows(1, 1))  # as two processes that compute the same image
    assert Store(tmp_path, KIND).missing(names(60)) == []
    opened = Store(tmp_path, KIND)
    opened.missing(names(60))
    opened.merge()
    (shard,) = features.shards(store.folder)
    assert sorted(shard.images) == sorted(names(60))
    for again in (opened, Store(tmp_path, KIND)):
        assert again.missing(names(60)) == []
        np.testing.assert_array_equal(again.rows(names(60)).gather(np.arange(60)), rows(60))
    opened.merge()
    assert list(features.shards(store.folder)) == [shard]


def test_merging_that_was_killed_before_it_removed_the_old_ends_in_one_shard(tmp_path):
    store = Store(tmp_path, KIND)
    for start in (0, 4):
        write(store, names(4, start), rows(4, start))
    write(store, names(8), rows(8))
    store = Store(tmp_path, KIND)
    store.missing(names(8))
    store.merge()
    (shard,) = features.shards(store.folder)
    assert sorted(shard.images) == names(8)
    assert Store(tmp_path, KIND).missing(names(8)) == []


def test_full_shards_are_left_as_they_are(tmp_path):
    store = Store(tmp_path, replace(KIND, shape=(1024, 1024, 3)))  # 5 rows are 60 MB
    write(store, list("efghi"), np.zeros((5, 1024, 1024, 3), np.float32))
    (full,) = features.shards(store.folder)
    written = full.path.stat().st_mtime_ns
    for image in "abcde":
        write(store, [image], np.zeros((1, 1024, 1024, 3), np.float32))
    store.missing(list("abcdefghi"))
    store.merge()  # of `e`, which a full one holds, nothing is left
    assert sorted(len(shard.images) for shard in features.shards(store.folder)) == [4, 5]
    assert full.path.stat().st_mtime_ns == written
    assert not store.rows(list("abcdefghi")).gather(np.arange(9)).any()


def test_shards_grow_in_few_steps_so_that_a_delivery_rewrites_few_of_them():
    row_bytes, rewritten, shards_of = 392 * 1024, 0, []
    for images in range(10_000, 2_000_001, 10_000):
        most = features.joined_rows(images, row_bytes)
        shards_of.append(10_000)
        small = [each for each in shards_of if 2 * each <= most]
        shards_of = [each for each in shards_of if 2 * each > most]
        while sum(small) and len(small) > 1:
            group = [small.pop()]
            while small and sum(group) < most:
                group.append(small.pop())
            rewritten += sum(group)
            shards_of.append(sum(group))
        shards_of += small
    # Each image is written once more at two thresholds, not with every delivery.
    assert rewritten <= 2.5 * 2_000_000
    assert max(shards_of) * row_bytes < 10 * 2**30 and len(shards_of) < 400


def test_rows_that_were_found_stay_readable_when_another_process_clears_the_cache(store, tmp_path):
    assert store.missing(names(7)) == []
    limit.clear(tmp_path)
    np.testing.assert_array_equal(store.rows(names(7)).gather(np.arange(7)), rows(7))


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 3}', '{"images": [1]}', '"text"'])
def test_a_damaged_listing_is_no_shard_and_makes_room(store, tmp_path, content):
    shard = next(shard for shard in features.shards(store.folder) if "hash0" in shard.images)
    shard.listing.write_text(content)
    assert Store(tmp_path, KIND).missing(names(7)) == names(4)
    assert limit.contents(tmp_path)[0].images == 3
    limit.evict(tmp_path, 10**9)
    assert not shard.listing.exists() and not shard.path.exists()


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_a_damaged_description_of_a_kind_is_passed_over(store, tmp_path, content):
    (store.folder / features.KIND).write_text(content)
    assert limit.contents(tmp_path) == []


def test_looking_and_making_room_go_well_while_another_process_clears_the_cache(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vggflow.features import limit\n"
        "end = time.monotonic() + 2\nprint('ready', flush=True)\n"
        "while time.monotonic() < end: limit.clear(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    store = Store(tmp_path, KIND)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        while other.poll() is None:
            with suppress(FileNotFoundError, FileExistsError):  # what a feature pass turns into one line
                write(store, names(4), rows(4))
            limit.contents(tmp_path)
            limit.held_bytes(tmp_path)
            limit.evict(tmp_path, 10)
            Store(tmp_path, KIND).missing(names(4))
    assert other.returncode == 0


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_what_fails_in_the_writing_thread_is_raised_whichever_rows_it_was(tmp_path, calls):
    class Full(Writer):
        def add(self, rows: np.ndarray) -> None:
            if len(rows) == calls:
                raise OSError(28, "No space left on device")
            super().add(rows)

    store = Store(tmp_path, KIND)
    images = names(sum(range(1, calls + 1)))
    full = Full(store, images, 1)
    with pytest.raises(OSError, match="No space"), full, features.WritingThread(full) as thread:
        for number in range(1, calls + 1):
            thread.add(rows(number))
    assert len(store.missing(images)) >= calls


def test_features_that_another_process_evicted_are_missing_again(store, tmp_path):
    assert store.missing(names(7)) == []
    limit.clear(tmp_path)
    assert store.missing(names(2)) == names(2)


def test_contents_and_clear_tell_what_is_there(store, tmp_path):
    (entry,) = limit.contents(tmp_path)
    assert (entry.kind, entry.images) == (KIND, 7)
    assert limit.clear(tmp_path) >= entry.size_bytes
    assert limit.contents(tmp_path) == []
    assert limit.clear(tmp_path) == 0


def each_flip_costs_no_more_than_the_features(tmp_path: Path, count: int) -> None:
    """Whatever bit flips in a shard, its listing, its kind or list of checked: rows are right or computed anew."""
    generator = random.Random(0)
    write(Store(tmp_path, KIND), names(4), rows(4))
    folder = Store(tmp_path, KIND).folder
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) == 4
    for _ in range(count):
        path = generator.choice(sorted(whole))
        content = bytearray(whole[path])
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        opened = Store(tmp_path, KIND)
        if opened.missing(names(4)) == []:
            np.testing.assert_array_equal(opened.rows(names(4)).gather(np.arange(4)), rows(4))
        limit.contents(tmp_path)
        limit.evict(tmp_path, 10**9)
        for each, content in whole.items():
            each.write_bytes(content)


def test_a_flipped_bit_of_cached_features_is_never_learnt_from(tmp_path):
    each_flip_costs_no_more_than_the_features(tmp_path, 300)


@pytest.mark.slow
def test_six_thousand_flipped_bits_of_cached_features_are_never_learnt_from(tmp_path):
    each_flip_costs_no_more_than_the_features(tmp_path, 6000)
