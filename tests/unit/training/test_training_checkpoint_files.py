"""Checkpoints on disks that change bytes, and the locks of trainings that take long."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vggflow.errors import VggflowError
from vggflow.processes import locks
from vggflow.training import checkpoints
from vggflow.training.checkpoints import Checkpoints, Progress

ARRAYS = {
    "layer/predictions/0": np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3),
    "layer/predictions/1": np.zeros(3, np.float32),
    "optimizer/0": np.array(7, np.int64),
}


def checkpoint(folder: Path) -> Checkpoints:
    """A checkpoint with the best weights that it names."""
    place = Checkpoints(folder)
    progress = Progress("abc", ["block5_pool"], "run-1", epoch=2, best=0.5, best_epoch=2, rows=[{"epoch": 1}])
    place.save_best(progress, ARRAYS)
    place.save(progress, ARRAYS)
    return place


def flip(path: Path, generator: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, bit = generator.randrange(len(content)), generator.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {path.name}"


def each_flip_is_found(place: Checkpoints, count: int) -> None:
    """After each, the training would start afresh with files of its own; nothing else escapes."""
    generator = random.Random(0)
    for _ in range(count):
        path = generator.choice(sorted(place.folder.glob("*.npz")))
        whole = path.read_bytes()
        what = flip(path, generator)
        assert place.load() is None, what
        assert sorted(left.name for left in place.folder.iterdir()) == [
            "best-2.npz.damaged",
            "checkpoint.npz.damaged",
        ], what
        for left in place.folder.iterdir():
            left.rename(left.with_suffix(""))
        path.write_bytes(whole)
    loaded, arrays = place.load()
    assert loaded.best_epoch == 2
    np.testing.assert_array_equal(arrays["layer/predictions/0"], ARRAYS["layer/predictions/0"])


def test_whatever_bit_of_a_checkpoint_flips_the_training_starts_afresh(tmp_path):
    each_flip_is_found(checkpoint(tmp_path / "checkpoints" / "one"), 400)


@pytest.mark.slow
def test_none_of_six_thousand_flipped_bits_gets_through(tmp_path):
    each_flip_is_found(checkpoint(tmp_path / "checkpoints" / "one"), 6000)


def test_a_checkpoint_cut_at_any_byte_is_put_aside(tmp_path):
    place = checkpoint(tmp_path / "checkpoints" / "one")
    path = place.folder / "checkpoint.npz"
    content = path.read_bytes()
    for length in {0, 1, 21, 22, 63, 64, 65, 100, len(content) // 2, len(content) - 65, len(content) - 1}:
        path.write_bytes(content[:length])
        assert place.load() is None
        place = checkpoint(place.folder)


def test_what_is_put_aside_is_said_in_one_line(tmp_path, capfd):
    place = checkpoint(tmp_path / "checkpoints" / "one")
    flip(place.folder / "best-2.npz", random.Random(1))
    assert place.load() is None
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    for words in ("best-2.npz has changed", str(place.folder), "*.damaged", "starts afresh"):
        assert words in said[0]


def test_a_folder_in_the_place_of_a_checkpoint_is_put_aside(tmp_path):
    place = checkpoint(tmp_path / "checkpoints" / "one")
    (place.folder / "checkpoint.npz").unlink()
    (place.folder / "checkpoint.npz").mkdir()
    assert place.load() is None
    assert place.load() is None
    assert (place.folder / "checkpoint.npz.damaged").is_dir()


def test_a_checkpoint_that_cannot_be_put_aside_is_one_line(tmp_path):
    place = checkpoint(tmp_path / "checkpoints" / "one")
    flip(place.folder / "checkpoint.npz", random.Random(1))
    (place.folder / "checkpoint.npz.damaged" / "x").mkdir(parents=True)
    with pytest.raises(VggflowError, match=r"checkpoint\.npz.* can't be put aside .*: remove .*one"):
        place.load()


def test_a_checkpoint_stays_a_file_that_numpy_reads(tmp_path):
    place = checkpoint(tmp_path / "checkpoints" / "one")
    with np.load(place.folder / "checkpoint.npz", allow_pickle=False) as content:
        np.testing.assert_array_equal(content["layer/predictions/0"], ARRAYS["layer/predictions/0"])


def age(*paths: Path, days: float = 20) -> None:
    then = time.time() - days * 86400
    for path in paths:
        os.utime(path, (then, then))


def test_a_lock_that_is_held_stays_whatever_its_age_and_so_does_its_checkpoint(tmp_path):
    held, left = (checkpoint(tmp_path / "checkpoints" / name) for name in ("held", "left"))
    for place in (held, left):
        with place.held():
            pass
        age(*place.folder.iterdir(), checkpoints._lock(place.folder))
    code = (
        "import sys; from pathlib import Path; from vggflow.training.checkpoints import Checkpoints\n"
        "with Checkpoints(Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    program = [sys.executable, "-c", code, str(held.folder)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        checkpoints.prune(tmp_path / "checkpoints")
        assert held.load() is not None
        assert checkpoints._lock(held.folder).exists()
        assert not left.folder.exists()
        assert not checkpoints._lock(left.folder).exists()
        with locks.if_free(checkpoints._lock(held.folder)) as free:
            assert not free, "another training of the same inputs would have begun"
        holder.stdin.close()
    checkpoints.prune(tmp_path / "checkpoints")
    assert not held.folder.exists()


def test_who_waits_for_a_lock_that_is_removed_gets_the_one_that_others_see(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from vggflow.processes.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'this'): print('in', flush=True); sys.stdin.read()"
    )
    with locks.if_free(path) as free:
        assert free
        program = [sys.executable, "-c", code, str(path)]
        pipe = subprocess.PIPE
        waiting = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert "waiting" in waiting.stderr.readline()
        path.unlink()
    assert waiting.stdout.readline() == "in\n"
    with locks.if_free(path) as free:
        assert not free, "both would be alone"
    waiting.communicate()
    assert waiting.returncode == 0
