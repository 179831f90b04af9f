"""The gate at a million images, without the images: hashes and manifest rows are made up."""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.gate_rows import Row
from vggflow.data.schema import COLUMNS, CROP_HASHES
from vggflow.gate.candidate_pairs import candidates
from vggflow.gate.great_expectations_suites import confirm
from vggflow.gate.rules import rules
from vggflow.gate.tables import tables as tables_of
from vggflow.gate.verdict import Verdict, decide
from vggflow.settings import ValidateSettings

PLANTED = 1000
DISTANCE = ValidateSettings().near_hash_distance


def near_rows(options: argparse.Namespace, _: Path) -> Iterator[Row]:
    """Every picture has six hashes, as in earnest; some pairs are planted at every distance in reach."""
    seconds, memory, found = _apart(_search, options.rows)
    yield Row("near", "pictures, six hashes each", options.rows)
    yield Row("near", "search", seconds, "s", most=60)
    yield Row("near", "memory, all of the process", memory, "MiB", most=2000)
    yield Row("near", "planted pairs found", found, f"of {PLANTED}", least=PLANTED)
    seconds, _, found = _apart(_search_again, options.rows)
    yield Row("near", "search, one in a hundred new", seconds, "s", most=20)
    yield Row("near", "planted pairs found", found, f"of {PLANTED}", least=PLANTED)


def validate_rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """A manifest with a hundredth of its rows at fault."""
    seconds, memory, problems = _apart(_validate, options.rows, folder)
    yield Row("validate", "rows of the manifest", options.rows)
    yield Row(
        "validate", "findings, expectations, Data Docs", seconds, "s", most=90, note="imports not counted"
    )
    yield Row("validate", "memory, all of the process", memory, "MiB")
    yield Row("validate", "files named in problems", problems)


def _search(count: int) -> tuple[float, int]:
    pictures, planted = _hashes(count)
    began = time.perf_counter()
    pairs = candidates(pictures, DISTANCE)
    seconds = time.perf_counter() - began
    found = {(int(one), int(other)) for one, other in pairs}
    return seconds, len(planted & found)


def _search_again(count: int) -> tuple[float, int]:
    pictures, planted = _hashes(count)
    with tempfile.TemporaryDirectory() as folder:
        candidates(pictures[pictures.index % 100 > 0], DISTANCE, cache=Path(folder))
        began = time.perf_counter()
        pairs = candidates(pictures, DISTANCE, cache=Path(folder))
        seconds = time.perf_counter() - began
    found = {(int(one), int(other)) for one, other in pairs}
    return seconds, len(planted & found)


def _hashes(count: int) -> tuple[pd.DataFrame, set[tuple[int, int]]]:
    chance = np.random.default_rng(0)
    whole = chance.integers(0, 2**64, count, dtype=np.uint64)
    ones, others = np.split(chance.choice(count, 2 * PLANTED, replace=False), 2)
    for number, (one, other) in enumerate(zip(ones, others, strict=True)):
        whole[other] = _flipped(whole[one], number % (DISTANCE + 1), chance)
    crops = {name: chance.integers(0, 2**64, count, dtype=np.uint64) for name in CROP_HASHES}
    pairs = {(int(min(pair)), int(max(pair))) for pair in zip(ones, others, strict=True)}
    return pd.DataFrame({"perceptual_hash": whole, **crops}), pairs


def _flipped(value: np.uint64, bits: int, chance: np.random.Generator) -> np.uint64:
    for bit in chance.choice(64, bits, replace=False):
        value ^= np.uint64(1) << np.uint64(bit)
    return value


def _validate(count: int, folder: Path) -> tuple[float, int]:
    manifest = _manifest(count)
    _judge(manifest[:1000], folder / "warm")
    began = time.perf_counter()
    verdict = _judge(manifest, folder / "docs")
    return time.perf_counter() - began, sum(len(problem.paths) for problem in verdict.problems)


def _judge(manifest: pd.DataFrame, docs: Path) -> Verdict:
    asked, tables = rules(ValidateSettings()), tables_of(manifest)
    verdict = decide(manifest, tables, asked)
    confirm(verdict, tables, asked, docs)
    return verdict


def _manifest(count: int) -> pd.DataFrame:
    chance = np.random.default_rng(0)
    number = np.arange(count)
    split = np.array(["train"] * 8 + ["valid", "test"])[number // 2 % 10]
    names = np.array(["cats", "dogs"])[number % 2]
    faulty = chance.random((5, count)) < 0.002
    # A copy has the bytes of its neighbour: sometimes of another split or label.
    sha256 = np.where(faulty[0], np.maximum(number - 1, 0), number).astype(str)
    columns = {
        "path": pd.Series(split) + "/" + pd.Series(names) + "/" + pd.Series(number.astype(str)) + ".jpg",
        "split": split,
        "class_name": names,
        "kind": "image",
        "bytes": 30_000,
        "width": np.where(faulty[1], 4, chance.integers(200, 800, count)),
        "height": chance.integers(200, 800, count),
        "mode": "RGB",
        "format": "JPEG",
        "extension_fits": ~faulty[2],
        "orientation": 1,
        "used_bits": None,
        "frames": 1,
        "brightness": np.where(faulty[3], 5, chance.normal(110, 20, count)),
        "contrast": 50.0,
        "sharpness": 30.0,
        "detail": 1.5,
        "perceptual_hash": chance.integers(0, 2**64, count, dtype=np.uint64),
        **dict.fromkeys(CROP_HASHES, chance.integers(0, 2**64, count, dtype=np.uint64)),
        "sha256": sha256,
        "near_group": pd.array(np.where(faulty[4], number // 2, -1), dtype="Int64"),
        "error": pd.array(np.where(chance.random(count) < 0.002, "truncated", None), dtype="str"),
        "doubt": None,
        "oddity": None,
        "excluded": None,
    }
    manifest = pd.DataFrame(columns).astype(COLUMNS)
    manifest["near_group"] = manifest["near_group"].mask(manifest["near_group"] < 0)
    return manifest


def _apart(work: Callable[..., tuple[float, int]], *arguments: Any) -> tuple[float, float, int]:
    """Seconds, peak memory in MiB and the result of work done in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, arguments))


def _measured(work: Callable[..., tuple[float, int]], arguments: tuple[Any, ...]) -> tuple[float, float, int]:
    seconds, result = work(*arguments)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, result
