"""What the last search found is used where it is whole and fits, and costs nothing but time where it is not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vggflow.data.schema import CROP_HASHES
from vggflow.gate import hash_memory
from vggflow.gate.candidate_pairs import candidates
from vggflow.gate.hash_memory import Found, HashMemory
from vggflow.gate.near_copies import NearLimits, mark_near_copies

NAME = f"near-hashes-{hash_memory.VERSION}.bin"


def _hashes(count: int, seed: int = 0) -> np.ndarray:
    """Pairs that differ in a bit, sorted."""
    found = np.random.default_rng(seed).integers(0, 2**64, count // 2, dtype=np.uint64)
    return np.sort(np.concatenate([found, found ^ np.uint64(1 << 30)]))


HASHES, CROPS = _hashes(60), _hashes(300, seed=1)
CROPS[::7] = HASHES[:43]
CROPS.sort()


def _same(one: Found, other: Found) -> None:
    for search, expected in zip(one, other, strict=True):
        assert np.array_equal(np.stack(search.pairs), np.stack(expected.pairs))


@pytest.fixture
def searched(tmp_path) -> Path:
    HashMemory(tmp_path, 8, 6).search(HASHES, CROPS)
    return tmp_path / NAME


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """How each search began."""
    begun: list[str] = []
    search = hash_memory.search

    def told(queries, base, radius, before):
        begun.append("from nothing" if before is None else "from before")
        return search(queries, base, radius, before)

    monkeypatch.setattr(hash_memory, "search", told)
    return begun


def test_what_is_known_is_not_asked_again(searched, asked):
    found = HashMemory(searched.parent, 8, 6).search(HASHES, CROPS)

    assert asked == []
    assert len(found.near.pairs.query) >= 60 and len(found.cropped.pairs.query) >= 43
    _same(found, HashMemory(None, 8, 6).search(HASHES, CROPS))


def test_new_pictures_are_added_and_those_that_are_gone_fall_out(searched, asked):
    hashes, crops = np.delete(HASHES, [3, 4, 5]), np.sort(np.append(CROPS, HASHES[50]))
    found = HashMemory(searched.parent, 8, 6).search(hashes, crops)

    assert asked == ["from before", "from before"]
    _same(found, HashMemory(None, 8, 6).search(hashes, crops))
    asked.clear()
    HashMemory(searched.parent, 8, 6).search(hashes, crops)
    assert asked == []


@pytest.mark.parametrize("radii", [(8, 5), (7, 6)])
def test_another_radius_knows_nothing(searched, asked, radii):
    HashMemory(searched.parent, *radii).search(HASHES, CROPS)

    assert asked == ["from nothing", "from nothing"]


def test_another_version_knows_nothing_and_leaves_nothing(searched, asked, monkeypatch):
    monkeypatch.setattr(hash_memory, "VERSION", hash_memory.VERSION + 1)
    HashMemory(searched.parent, 8, 6).search(HASHES, CROPS)

    assert asked == ["from nothing", "from nothing"]
    assert [path.name for path in searched.parent.iterdir()] == [f"near-hashes-{hash_memory.VERSION}.bin"]


def test_a_file_that_is_damaged_or_cut_anywhere_knows_nothing(searched):
    whole = searched.read_bytes()
    chance = np.random.default_rng(0)
    expected = HashMemory(None, 8, 6).search(HASHES, CROPS)
    assert HashMemory(searched.parent, 8, 6)._remembered() is not None
    for place in [*range(0, 260, 3), *chance.integers(260, len(whole), 60).tolist(), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(chance.integers(8))
        for content in (bytes(damaged), whole[:place]):
            searched.write_bytes(content)
            assert HashMemory(searched.parent, 8, 6)._remembered() is None, place
    searched.write_bytes(whole[:-8])
    _same(HashMemory(searched.parent, 8, 6).search(HASHES, CROPS), expected)
    assert searched.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", bytes(8), bytes(720), b"a text"])
def test_another_file_knows_nothing(searched, asked, content):
    searched.write_bytes(content)
    HashMemory(searched.parent, 8, 6).search(HASHES, CROPS)

    assert asked == ["from nothing", "from nothing"]


def test_what_a_killed_run_was_writing_is_no_memory_and_goes(searched, asked):
    half = searched.with_name(f".{NAME}.abcd1234.bin")
    half.write_bytes(searched.read_bytes()[:-80])
    searched.unlink()
    HashMemory(searched.parent, 8, 6).search(HASHES, CROPS)

    assert asked == ["from nothing", "from nothing"]
    assert [path.name for path in searched.parent.iterdir()] == [NAME]


def test_no_pictures_are_no_pairs(tmp_path, asked):
    nothing = np.empty(0, np.uint64)
    for hashes, crops in ((nothing, nothing), (HASHES, CROPS), (nothing, nothing), (HASHES, nothing)):
        for folder in (tmp_path, None):
            found = HashMemory(folder, 8, 6).search(hashes, crops)
            assert bool(len(found.near.pairs.query)) is bool(len(hashes))
            assert bool(len(found.cropped.pairs.query)) is bool(len(crops))


def test_a_folder_that_is_a_file_costs_nothing_but_time(tmp_path):
    (tmp_path / "cache").write_text("")
    found = HashMemory(tmp_path / "cache", 8, 6).search(HASHES, CROPS)

    _same(found, HashMemory(None, 8, 6).search(HASHES, CROPS))


PROGRAM = """
import os, resource, sys
from pathlib import Path
import numpy as np
from test_hash_memory import CROPS, HASHES
from vggflow.gate.hash_memory import HashMemory
from vggflow import console
console.tell("as below: in words")  # what it imports then can't be read by nobody, where Python lies in another's home
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if sys.argv[2] == "nobody":
    os.setresuid(65534, 65534, 65534)
found = HashMemory(Path(sys.argv[1]), 8, 6).search(HASHES, CROPS[:-2])
print(len(found.near.pairs.query))
"""


@pytest.mark.parametrize("who", ["nobody", "me"])
def test_a_full_disk_and_a_folder_of_others_cost_nothing_but_time(searched, who):
    before = searched.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(searched.parent), who],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 60
    assert searched.read_bytes() == before
    assert [path.name for path in searched.parent.iterdir()] == [NAME]


def _pictures(count: int) -> pd.DataFrame:
    chance = np.random.default_rng(5)
    columns = {name: chance.integers(0, 2**64, count, dtype=np.uint64) for name in CROP_HASHES}
    columns["crop_hash_2"][: count // 20] = columns["crop_hash_1"][-(count // 20) :]
    whole = chance.integers(0, 2**64, count, dtype=np.uint64)
    # Near each other, equal to others, and a window of others.
    whole[100:200] = whole[:100] ^ np.uint64(0b1010001)
    whole[200:260] = whole[:60]
    whole[300:400] = columns["crop_hash_1"][-100:]
    # A crowd, whose lists are cut.
    whole[400:600] = whole[400] ^ chance.integers(0, 2**8, 200, dtype=np.uint64) ** np.uint64(2)
    return pd.DataFrame({"perceptual_hash": whole, **columns})


def test_candidates_are_the_same_whatever_was_seen_before(tmp_path):
    pictures = _pictures(10_800)
    parts = (pictures[::-1][:10_500], pictures, pictures[::-1], pictures[150:], pictures[150:].sample(frac=1))
    for number, part in enumerate(parts):
        rows = part.reset_index(drop=True)
        found = candidates(rows, 8, cache=tmp_path)

        assert (tmp_path / NAME).exists()
        assert np.array_equal(found, candidates(rows, 8)), number
        assert len(found) > 2000


def test_the_gate_remembers_what_it_looked_up(tmp_path, asked):
    count = 10_100
    chance = np.random.default_rng(3)
    names = ("perceptual_hash", *CROP_HASHES)
    hashes = {name: chance.integers(0, 2**64, count, dtype=np.uint64) for name in names}
    numbers = pd.Series(range(count)).astype(str)
    others = {"path": numbers, "sha256": numbers, "error": None, "detail": 2.0}
    manifest = pd.DataFrame({**hashes, **others})
    (tmp_path / "data").mkdir()
    for rows in (manifest[20:], manifest):
        marked = mark_near_copies(rows, tmp_path / "data", NearLimits(8, 0.9, 1.0), cache=tmp_path / "cache")
        assert marked.manifest["near_group"].isna().all()

    assert asked == ["from nothing"] * 2 + ["from before"] * 2


def test_few_pictures_leave_no_memory(tmp_path):
    pictures = _pictures(2000)

    assert np.array_equal(candidates(pictures, 8, cache=tmp_path), candidates(pictures, 8))
    assert list(tmp_path.iterdir()) == []
