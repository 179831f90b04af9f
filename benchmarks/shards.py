"""What shards cost and save, measured: `python -m benchmarks.shards [--images 100000 1000000] [--files 100000]`.

Small made-up pictures, written into shards of as many images as photographs would be, and removed in the end. For each
number of images: seconds and memory of `dvc add` and of the data gate (all of it: scan, near copies, expectations,
Data Docs), with nothing remembered and once more. The same with a file for each image as far as `--files` says. A
missed aim ends with exit code 1.
"""

import argparse
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.gate_rows import Row
from vggflow.data.places import Place
from vggflow.data.shards import Packed, write
from vggflow.gate import judge
from vggflow.settings import ValidateSettings

SIDE_PX = 24
CLASSES = 10
# Ten shards of a tenth each: about what 512 MB hold of photographs.
AT_A_TIME = 100_000
SPLITS = ("train",) * 8 + ("valid", "test")
MIB = 1024**2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument(
        "--files", type=int, nargs="*", default=[100_000], help="also as a file for each image"
    )
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--gate", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gate:
        _judge(options.gate)
        return 0
    failed = False
    for row in _rows(options):
        print(json.dumps(row.to_dict()) if options.json else row.to_line(), flush=True)
        failed |= row.meets_aim is False
    return int(failed)


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    for form, counts in (("shards", options.images), ("files", options.files)):
        seconds: dict[str, list[tuple[int, float]]] = {}
        for count in counts:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                for row in _measured(Path(folder), form, count):
                    yield row
                    if row.unit == "s":
                        seconds.setdefault(row.what, []).append((count, row.value))
        for what, points in seconds.items():
            if len(points) > 1:
                (few, short), (many, long) = points[0], points[-1]
                exponent = math.log(long / short) / math.log(many / few)
                yield Row(
                    form,
                    f"{what}: growth",
                    exponent,
                    note=f"seconds as images to this power, {few:,}–{many:,}",
                )


def _measured(root: Path, form: str, count: int) -> Iterator[Row]:
    """Seconds and memory of each step over a workspace of so many images."""
    began = time.perf_counter()
    _make(root / "data", count, form)
    note = f"made in {time.perf_counter() - began:.0f} s"
    yield Row(form, "images", count, note=note)
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=root, check=True)
    steps = {
        "dvc add": ["dvc", "add", "--quiet", "data"],
        "gate": [sys.executable, "-m", "benchmarks.shards", "--gate", str(root)],
        "gate once more": [sys.executable, "-m", "benchmarks.shards", "--gate", str(root)],
    }
    # Of so many images as the issue of memory is about; fewer take less.
    most = {"dvc add": 1024.0, "gate": 4000.0, "gate once more": 4000.0} if form == "shards" else {}
    for what, command in steps.items():
        seconds, memory = _watched(command, root if what == "dvc add" else None)
        yield Row(form, what, seconds, "s", note=f"{1e6 * seconds / count:.0f} µs an image")
        yield Row(
            form,
            f"{what}: memory",
            memory,
            "MiB",
            most=most.get(what),
            note=f"{1024 * memory / count:.2f} KiB an image",
        )
    yield Row(form, "files that DVC tracks", sum(len(names) for _, _, names in os.walk(root / "data")))


def _watched(command: Sequence[str], folder: Path | None) -> tuple[float, float]:
    """Seconds of a program, and the most memory that it and what it started held at once, in MiB."""
    began, peak = time.perf_counter(), 0
    program = psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            try:
                every = [program, *program.children(recursive=True)]
                peak = max(peak, sum(each.memory_info().rss for each in every))
            except psutil.NoSuchProcess:
                continue  # one ended between the two calls

    watching = threading.Thread(target=watch)
    watching.start()
    code = program.wait()
    done.set()
    watching.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return time.perf_counter() - began, peak / MIB


def _judge(root: Path) -> None:
    settings = ValidateSettings(min_images_per_class=1)
    found = judge.judge(root / "data", settings, root / "docs", cache=root / "cache")
    if found.manifest["error"].notna().any() or not len(found.manifest):
        raise SystemExit("made-up pictures were not all readable")


def _make(data: Path, count: int, form: str) -> None:
    chance = np.random.default_rng(0)
    for start in range(0, count, AT_A_TIME):
        for number, split in enumerate(SPLITS):
            numbers = range(start + number, min(count, start + AT_A_TIME), len(SPLITS))
            names = [f"{split}/class-{each // 10 % CLASSES}/{each:08}.jpg" for each in numbers]
            _write(data, split, names, [_picture(chance) for _ in numbers], form)


def _write(data: Path, split: str, names: Sequence[str], contents: Sequence[bytes], form: str) -> None:
    if form == "shards":
        _write_shard(data, split, names, contents)
        return
    for name, content in zip(names, contents, strict=True):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)


def _write_shard(data: Path, split: str, names: Sequence[str], contents: Sequence[bytes]) -> None:
    """By way of one file, as a million small ones would take longer than what is measured."""
    with tempfile.NamedTemporaryFile(dir=data.parent) as file:
        images, offset = [], 0
        for name, content in zip(names, contents, strict=True):
            file.write(content)
            place = Place(file.name, name, offset, len(content))
            images.append(Packed(name, place, len(content), hashlib.sha256(content).hexdigest()))
            offset += len(content)
        file.flush()
        write(data, split, images)


def _picture(chance: np.random.Generator) -> bytes:
    """A few soft spots of colour: something that a hash can tell from others."""
    spots = Image.fromarray(chance.integers(0, 256, (6, 6, 3), np.uint8))
    content = io.BytesIO()
    spots.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(main())
