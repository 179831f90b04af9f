"""Memory does not grow with the images."""

import subprocess
import sys
from pathlib import Path

import pytest


def most_anonymous_kb(folder: Path, images: int) -> int:
    script = Path(__file__).with_name("train_many.py")
    result = subprocess.run(
        [sys.executable, str(script), str(folder), str(images)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return int(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_ten_times_the_images_take_the_same_anonymous_memory(tmp_path):
    few, many = (most_anonymous_kb(tmp_path / str(images), images) for images in (1_000, 10_000))
    assert many == pytest.approx(few, rel=0.10)
