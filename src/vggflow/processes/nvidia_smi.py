"""NVIDIA's GPUs in this machine, as its driver's own program tells them: no library of CUDA is loaded for it."""

import os
import shutil
import subprocess
from contextlib import suppress

from vggflow.errors import VggflowError

# A driver in trouble lets the program hang.
SECONDS = 10.0


def free_bytes() -> int | None:
    """Memory that the first GPU has left; none where the driver does not say."""
    with suppress(VggflowError, LookupError, ValueError):
        megabytes, unit = gpus()[0].rpartition(",")[2].split()
        return int(megabytes) * 2**20 if unit == "MiB" else None
    return None


def gpus() -> list[str]:
    """Names and free memory, such as `NVIDIA H200, 143156 MiB`; empty where there is none, or none may be used.

    Raises:
        VggflowError: the program fails or hangs, thus the driver does.
    """
    program = shutil.which("nvidia-smi")
    # CUDA's own switch: empty or -1 hides all of them.
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return []
    query = [program, "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise VggflowError(f"nvidia-smi says nothing for {SECONDS:g} s") from None
    if done.returncode != 0:
        raise VggflowError(f"nvidia-smi: {' '.join((done.stderr or done.stdout).split())[:100]}")
    return done.stdout.strip().splitlines()
