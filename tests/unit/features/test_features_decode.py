"""Images decoded ahead of their reader, in threads and in processes: the same pixels, order and errors."""

import os
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from vggflow.data import parallel
from vggflow.data.images import load
from vggflow.errors import DataError, VggflowError
from vggflow.features import decode
from vggflow.features.decode import Examples, Shape, read_ahead

COUNT = parallel.FEW + 20
SHAPE = Shape(12, "crop")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    hashes = []
    for number in range(COUNT):
        path = folder / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (16, 20, 3)).astype(np.uint8)).save(path)
        hashes.append(sha256(path.read_bytes()).hexdigest())
    names = tuple(f"{number}.png" for number in range(COUNT))
    return Examples(folder, names, tuple(hashes), np.zeros(COUNT, np.int64))


@pytest.fixture(params=["threads", "processes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a machine with few cores and with many; two processes are enough here."""
    if request.param == "processes":
        monkeypatch.setattr(decode, "usable_cores", lambda: 16)
        monkeypatch.setattr(decode, "FEWEST_FOR_PROCESSES", parallel.FEW)
        monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    return request.param


def test_pixels_come_in_the_order_asked_for(images: Examples, way: str) -> None:
    order = np.random.default_rng(1).permutation(COUNT).tolist()
    with closing(read_ahead(images, order, SHAPE)) as pixels:
        first = next(pixels)
        assert len(_workers()) == (2 if way == "processes" else 0)
        found = [first, *pixels]
    assert len(found) == COUNT
    for row, index in zip(found, order, strict=True):
        np.testing.assert_array_equal(row, load(images.places[index], 12, "crop"))
    assert _workers() == []


def test_a_file_that_changed_is_named_and_leaves_nobody_at_work(images: Examples, way: str) -> None:
    hashes = (*images.hashes[:40], "other", *images.hashes[41:])
    other = Examples(images.folder, images.names, hashes, images.labels)
    with pytest.raises(DataError, match=r"40\.png changed since validate"):
        list(read_ahead(other, range(COUNT), SHAPE))
    assert _workers() == []


def test_a_reader_may_stop_halfway(images: Examples, way: str) -> None:
    with closing(read_ahead(images, range(COUNT), SHAPE)) as pixels:
        next(pixels)
    assert _workers() == []


def test_few_images_are_decoded_before_processes_would_have_started(
    images: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "usable_cores", lambda: 16)
    assert COUNT < decode.FEWEST_FOR_PROCESSES
    with closing(read_ahead(images, range(COUNT), SHAPE)) as pixels:
        next(pixels)
        assert _workers() == []


def test_a_process_that_is_killed_over_its_bytes_is_told(images: Examples) -> None:
    large = Shape(400, "stretch")
    items = [(images.places[n], images.hashes[n], large.size_px, large.resize) for n in range(COUNT)] * 3
    with closing(parallel.for_each(decode.decoded, items, 2)) as answers:
        assert len(next(answers)) == 1 + 400 * 400 * 3
        for worker in _workers():
            worker.kill()
        with pytest.raises(VggflowError, match="ended early"):
            list(answers)


def test_a_process_that_decodes_imports_no_keras(tmp_path: Path) -> None:
    code = "import vggflow.features.decode, sys; print({'keras', 'tensorflow', 'pandas'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "set()"


def _workers() -> list[psutil.Process]:
    mine = psutil.Process().children()
    return [each for each in mine if "vggflow.data.parallel" in " ".join(each.cmdline())]
