"""A folder in which nothing can be remembered costs time, and a line."""

import errno

import numpy as np
import pandas as pd
import pytest
from made_pictures import encode, grow, jpeg, picture

from vggflow import files
from vggflow.gate import memory_files
from vggflow.gate.hash_memory import HashMemory
from vggflow.gate.memory_files import read_memory, remembering
from vggflow.gate.near_copies import NearLimits, mark_near_copies
from vggflow.gate.scan import scan
from vggflow.importing.packing import pack

LIMITS = NearLimits(8, 0.9, 1.0)


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    memory_files._tell.cache_clear()


@pytest.fixture
def data(tmp_path):
    folder = grow(tmp_path / "data")
    (folder / "train" / "cats" / "original.jpg").write_bytes(jpeg(100))
    (folder / "test" / "cats" / "copy.jpg").write_bytes(encode(picture(100), "JPEG", quality=40))
    return folder


def looked_at(data, cache=None):
    return mark_near_copies(scan(data, cache=cache), data, LIMITS, cache=cache).manifest


@pytest.mark.parametrize("packed", [False, True])
def test_the_gate_sees_the_same_where_nothing_can_be_written(data, tmp_path, capsys, packed):
    if packed:
        pack(data, 10**6)
    expected = looked_at(data)
    assert expected["near_group"].notna().sum() == 2
    (tmp_path / "file").write_text("no folder")
    cache = tmp_path / "file" / "cache"
    pd.testing.assert_frame_equal(looked_at(data, cache), expected)
    lines = capsys.readouterr().err.splitlines()
    assert {line.partition(" (")[2].partition(")")[0] for line in lines} == {"Not a directory"}
    assert len(lines) == len(set(lines)) <= 3


def test_a_full_disk_is_said_once(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    for number in range(3):
        with remembering(tmp_path):
            files.write_json(tmp_path / f"{number}.json", {})
    assert capsys.readouterr().err.splitlines() == [
        f"nothing can be remembered in {tmp_path} (No space left on device): the next scan looks at all images again"
    ]


def test_what_could_not_be_read_for_a_moment_stays_and_what_is_damaged_goes(tmp_path, monkeypatch):
    path = tmp_path / "known.parquet"
    pd.DataFrame({"pair": ["a b"]}).to_parquet(path)
    monkeypatch.setattr(pd, "read_parquet", failing(OSError(errno.EIO, "Input/output error")))
    assert read_memory(path) is None
    monkeypatch.undo()
    assert list(read_memory(path)["pair"]) == ["a b"]
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9], whole[: len(whole) // 2], b"PAR1" + b"\0" * 100 + b"PAR1"):
        path.write_bytes(damaged)
        assert read_memory(path) is None
        assert not path.exists()
    assert read_memory(path) is None


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_a_search_for_near_hashes_needs_no_folder_to_write_to(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    hashes = np.arange(100, dtype=np.uint64) << np.uint64(20)
    nothing = hashes[:0]
    found = HashMemory(tmp_path / "file" / "cache", 3, 2).search(hashes, nothing)
    expected = HashMemory(None, 3, 2).search(hashes, nothing)
    assert all(map(np.array_equal, found.near.pairs, expected.near.pairs))
    assert "Not a directory" in capsys.readouterr().err
