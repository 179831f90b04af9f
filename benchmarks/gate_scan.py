"""The scan against the bare minimum that any scan must do, against itself, and against CleanVision."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gate_bare import bare_minimum, nothing
from benchmarks.gate_rows import Row
from vggflow.data import parallel
from vggflow.data.places import Place
from vggflow.gate.inspect_file import inspect
from vggflow.gate.scan import scan

# Two, as the aims were set for two cores; the scan itself takes all that there are.
PROCESSES = 2

CLEANVISION = """
import sys, time
from cleanvision import Imagelab
images = Imagelab(data_path=sys.argv[1])
began = time.perf_counter()
images.find_issues(n_jobs=int(sys.argv[2]), verbose=False)
print(time.perf_counter() - began)
"""


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Rates in images per second, and their ratios."""
    data = folder / "data"
    count = multiply(Path(options.photos), data, options.images)
    paths = [str(path) for path in sorted(data.rglob("*.jpg"))]
    before = {path: Path(path).stat() for path in paths}
    bare, ours, second = [], [], []
    # In turns, so that a machine that slows down slows both.
    for turn in range(2):
        cache = folder / f"cache{turn}"
        bare.append(_seconds(_all, bare_minimum, paths) - _seconds(_all, nothing, [""] * parallel.FEW))
        ours.append(_seconds(scan, data, None, cache) - _seconds(_all, inspect, [Place("")] * parallel.FEW))
        second.append(_seconds(scan, data, None, cache))
    yield Row("scan", "photographs", count)
    yield Row("scan", "bare minimum", count / min(bare), "images/s", note="read, decode, sha256, 8×8 hash")
    yield Row("scan", "first scan", count / min(ours), "images/s")
    yield Row("scan", "first scan to bare minimum", min(bare) / min(ours), least=0.6)
    yield Row("scan", "second scan, nothing changed", min(second), "s")
    yield Row("scan", "second scan to first", min(second) / min(ours), most=0.05)
    yield from _memory_rows(paths)
    yield _parent_row(data, len(paths))
    unchanged = all(_same(Path(path).stat(), status) for path, status in before.items())
    yield Row("scan", "data folder as it was", float(unchanged), least=1)
    if options.cleanvision:
        seconds = cleanvision(data, folder)
        yield Row("scan", "CleanVision", count / seconds, "images/s")
        yield Row("scan", "first scan to CleanVision", seconds / min(ours), least=10)


def _parent_row(data: Path, count: int) -> Row:
    """How much more memory the process that scans takes for all images than for a tenth of them."""
    few = data.parent / "few"
    for path in sorted(data.glob("*/*/*"))[::10]:
        place = few / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    peaks = []
    for folder in (few, data):
        code = (
            "import resource, sys; from pathlib import Path; from vggflow.gate.scan import scan; "
            "scan(Path(sys.argv[1])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True
        )
        peaks.append(int(said.stdout) / 1024)
    shutil.rmtree(few)
    # The manifest itself, at less than 4 KiB a row.
    return Row(
        "scan", "scanning process, all images to a tenth", peaks[1] - peaks[0], "MiB", most=20 + count / 256
    )


def _memory_rows(paths: list[str]) -> Iterator[Row]:
    """What the largest worker takes for a tenth of the images, and for all of them."""
    places = [Place(path) for path in paths]
    for share in (10, 1):
        peak = 0
        for done, _ in enumerate(parallel.for_each(inspect, places[: len(paths) // share], PROCESSES)):
            if done % 100 == 0:
                workers = psutil.Process().children()
                peak = max(peak, *(worker.memory_info().rss for worker in workers)) if workers else peak
        yield Row("scan", f"largest worker, {len(paths) // share} images", peak / 1024**2, "MiB", most=200)


def multiply(photos: Path, data: Path, count: int) -> int:
    """Copies photographs until there are so many, each different by bytes after the end of the image."""
    originals = sorted(photos.glob("*/*/*.jpg"))
    for number in range(count):
        # Evenly, so that a small number has images of every split too.
        place = number * len(originals) // count if count < len(originals) else number % len(originals)
        original = originals[place]
        copy = data / original.relative_to(photos).with_stem(f"{original.stem}.{number}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(original.read_bytes() + f"copy {number}".encode())
    return count


def cleanvision(data: Path, folder: Path) -> float:
    """Seconds that CleanVision takes, in an environment of its own, without its imports."""
    python = folder / "cleanvision" / "bin" / "python"
    uv = [shutil.which("uv") or str(Path(sys.executable).parent / "uv")]
    subprocess.run([*uv, "venv", "-q", str(python.parent.parent)], check=True)
    subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), "cleanvision"], check=True)
    command = [str(python), "-W", "ignore", "-c", CLEANVISION, str(data), str(PROCESSES)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said.splitlines()[-1])


def _all(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    deque(parallel.for_each(function, items, PROCESSES), maxlen=0)


def _seconds(work: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _same(now: os.stat_result, before: os.stat_result) -> bool:
    return all(
        getattr(now, name) == getattr(before, name) for name in ("st_size", "st_mtime_ns", "st_ctime_ns")
    )
