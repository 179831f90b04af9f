"""Predictions of many images: `python -m benchmarks.predict [--images N] [--json]`.

As many files as are asked for, the photographs of `$VGGFLOW_PHOTOS` again and again, 2 in 1,000 cut off, through
`vggflow predict -o` with the exported graph of a network that costs nearly nothing (width 1/64, 32 px). Beside the rate
stands that of decoding alone with as many threads, beside the memory that for a tenth of the images, and the rows of a
run that was killed ten times are compared with those of one that was not. A miss ends with exit code 1.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.training import Row, row, show_all
from vggflow.data import images
from vggflow.data.parallel import DECODING_THREADS

SIZE_PX, WIDTH = 32, 0.015625
BROKEN_OF_A_THOUSAND = 2
KILLS = 10
# Shares of decoding alone, and of the memory for a tenth.
RATE, MEMORY = 0.9, 1.1


def make_images(photos: Path, folder: Path, count: int) -> tuple[list[Path], int]:
    """Files of their own name, each a photograph; how many of them are cut off."""
    originals = sorted(photos.glob("*/*/*.*"))
    folder.mkdir()
    made, broken = [], 0
    every = 1000 // BROKEN_OF_A_THOUSAND
    same_disk = originals[0].stat().st_dev == folder.stat().st_dev
    for number in range(count):
        original = originals[number % len(originals)]
        path = folder / f"{number}{original.suffix}"
        if number % every == every // 2:
            path.write_bytes(original.read_bytes()[:2000])
            broken += 1
        elif same_disk:
            os.link(original, path)
        else:
            path.write_bytes(original.read_bytes())
        made.append(path)
    return made, broken


def make_model(path: Path) -> None:
    """In a process of its own: this one is to hold no network."""
    code = (
        "import sys; from pathlib import Path; from vggflow.models import start_keras; start_keras.start()\n"
        "from vggflow.models import builder, files; from vggflow.settings import ModelSettings\n"
        f"chosen = ModelSettings(image_size_px={SIZE_PX}, width={WIDTH}, weights='none', builder='sequential')\n"
        "network = builder.build(chosen, ('cats', 'dogs'))\n"
        f"info = files.ModelInfo(('cats', 'dogs'), {SIZE_PX}, 'stretch', chosen.preprocessing)\n"
        "model = Path(sys.argv[1]).with_suffix('.keras')\n"
        "files.save(network, info, model)\n"
        "from vggflow.prediction import exported_graph, predictor\n"
        "exported_graph.write(predictor.Predictor(model), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)


def measure(photos: Path, folder: Path, count: int) -> Iterator[Row]:
    """All figures."""
    model = folder / "model.onnx"
    make_model(model)
    paths, broken = make_images(photos, folder / "images", count)
    tenth, _ = make_images(photos, folder / "tenth", count // 10)
    _decode(tenth, DECODING_THREADS)  # so that neither pays for reading the photographs from disk
    first = _decode(paths, DECODING_THREADS)
    seconds, memory = _predict(model, folder / "images", folder / "whole.parquet")
    # Before and after: a machine that others use too is not as fast from one half-minute to the next.
    alone = 2 * count / (first + _decode(paths, DECODING_THREADS))
    yield row("decoding alone: images/s", alone, None, least=True)
    _, little = _predict(model, folder / "tenth", folder / "tenth.parquet")
    found = _rows(folder / "whole.parquet")
    yield row("rows", len(found), count, least=True)
    yield row(
        "rows with an error, away from the files cut off",
        abs(sum(map(_failed, found)) - broken),
        0,
        least=False,
    )
    yield row("predict -o: images/s", count / seconds, None, least=True)
    yield row("predict -o: share of decoding alone", count / seconds / alone, RATE, least=True)
    yield row("memory at most: MiB", memory / 2**20, None, least=False)
    yield row("memory, share of that for a tenth of the images", memory / little, MEMORY, least=False)
    kills = _killed(model, folder / "images", folder / "killed.parquet", seconds)
    yield row("kills before it was through", kills, None, least=True)
    yield row(
        "rows that differ after them", _differing(found, _rows(folder / "killed.parquet")), 0, least=False
    )


def _decode(paths: Sequence[Path], threads: int) -> float:
    def one(path: Path) -> None:
        try:
            images.load(path, SIZE_PX)
        except images.ImageError:
            return

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, paths):
            pass
    return time.perf_counter() - started


def _start(model: Path, source: Path, out: Path) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "vggflow.cli",
        "predict",
        str(source),
        "--model",
        str(model),
        "-o",
        str(out),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _predict(model: Path, source: Path, out: Path) -> tuple[float, float]:
    """Seconds from its first image to its file, and the most memory that it held, in bytes."""
    parts = out.parent / f".{out.name}.parts"
    process = _start(model, source, out)
    watched, memory, began = psutil.Process(process.pid), 0.0, 0.0
    ended = 0.0
    while process.poll() is None:
        try:
            memory = max(memory, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        # From when the job is begun until its file is there: the rest is starting and ending a program.
        began = began or (time.perf_counter() if (parts / "job.json").exists() else 0.0)
        ended = ended or (time.perf_counter() if out.exists() else 0.0)
        time.sleep(0.02)
    _, said = process.communicate()
    if process.returncode:
        sys.exit(said)
    return (ended or time.perf_counter()) - began, memory


def _killed(model: Path, source: Path, out: Path, seconds: float) -> int:
    """Kills it at random moments after it began, then lets it go through."""
    chance = random.Random(0)
    for number in range(KILLS):
        process = _start(model, source, out)
        while process.poll() is None and not (out.parent / f".{out.name}.parts" / "job.json").exists():
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 2 * seconds / KILLS))
        over = process.poll() is not None
        if not over:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        if over:
            return number
    _predict(model, source, out)
    return KILLS


def _rows(path: Path) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(path).to_pylist())


def _failed(row: dict[str, object]) -> bool:
    return row["error"] is not None


def _differing(one: list[dict[str, object]], other: list[dict[str, object]]) -> int:
    return abs(len(one) - len(other)) + sum(a != b for a, b in zip(one, other, strict=False))


def main(arguments: list[str] | None = None) -> int:
    """The program: a table, or JSON lines with `--json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    parser.add_argument("--photos", type=Path, default=os.environ.get("VGGFLOW_PHOTOS"))
    parser.add_argument("--images", type=int, default=10_000)
    given = parser.parse_args(arguments)
    if given.photos is None:
        parser.error("no photographs: set VGGFLOW_PHOTOS or give --photos FOLDER with <split>/<class>/")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(given.photos), Path(folder), given.images)
        return show_all(found, judged=given.images >= 10_000, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
