"""The benchmark of training runs from end to end on a few pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of noise: how fast, not how well, is what the benchmark asks."""
    generator = np.random.default_rng(0)
    for place in ("train/cat", "train/dog", "valid/cat", "valid/dog"):
        folder = tmp_path / "photos" / place
        folder.mkdir(parents=True)
        for number in range(20):
            noise = generator.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_stages_are_measured_alone_and_together(photos: Path, backend: str) -> None:
    command = [sys.executable, "-m", "benchmarks.stages", "--json", "--photos", str(photos), "--size", "32"]
    more = ["--images", "40", "--precision", "mixed", "--backend", backend]
    given = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run([*command, *more], cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = {row["measure"]: row for row in map(json.loads, done.stdout.splitlines())}
    alone = [f"pass, {name} alone: images/s" for name in ("decode", "forward", "fetch", "digest", "write")]
    alone += [f"epoch, {name} alone: images/s" for name in ("gather", "copy", "step")]
    assert set(alone) <= set(figures)
    assert all(row["value"] > 0 and row["met"] is None for row in figures.values())
    shares = [measure.partition(": share of ") for measure in figures if ": share of " in measure]
    assert [what for what, _, _ in shares] == ["feature pass"] * 2 + ["epoch from features"] * 2


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_a_short_run_gives_every_figure_and_judges_none(photos: Path, precision: str) -> None:
    command = [sys.executable, "-m", "benchmarks.training", "--short", "--json", "--photos", str(photos)]
    sizes = [
        "--images",
        "40",
        "--rounds",
        "1",
        "--size",
        "32",
        "--growth",
        "20",
        "40",
        "--precision",
        precision,
    ]
    done = subprocess.run([*command, *sizes], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    figures = {row["measure"]: row for row in rows}
    assert len(figures) == len(rows) == 16
    assert all(row["met"] is None and not row["aim"] for row in rows)
    assert figures["head phase: times faster than plain Keras"]["value"] > 0
    assert sum("times faster in an epoch of the " in measure for measure in figures) == 3
    assert figures["5 % more images: share of the first feature pass"]["images"] == 2
    assert figures["another learning rate: images through the frozen layers"]["value"] == 0
    assert figures["first feature pass: share of the speed of model.predict"]["pass images/s"][0] > 0
    assert 0 < figures["model.predict: share of that"]["value"] < 1.5
