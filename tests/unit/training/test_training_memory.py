"""Memory does not grow with the images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import draw

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_ten_times_the_images_take_the_same_anonymous_memory(tmp_path):
    for split in ("train", "valid"):
        draw(tmp_path, split, {"across": 20, "down": 20}, seed=1)
    command = [sys.executable, "-m", "benchmarks.training_memory", "--json", "--photos", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    few, many, growth = (json.loads(line)["value"] for line in done.stdout.splitlines())
    assert growth == pytest.approx(many / few, rel=1e-3)
    assert 0.9 <= growth <= 1.1


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB on Linux")
@pytest.mark.slow
@pytest.mark.parametrize("work", ["probe", "epoch"])
def test_many_images_of_many_classes_take_the_memory_of_few(tmp_path, work):
    """One number for each of 80,000 images and 1,000 classes would be 320 MB in float32, 640 in float64."""
    script = Path(__file__).with_name("measure_many_classes.py")
    done = subprocess.run([sys.executable, str(script), work, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) < 100
