"""Starts the processes of a training on this machine, on a free port of the loopback, and reads what they left."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("train_in_processes.py")
SECONDS = 300


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code, what it said on stderr, and what it found, if it came so far."""

    code: int
    said: str
    found: Mapping[str, Any]


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def place(port: int, count: int, index: int) -> dict[str, str]:
    """The environment of one of `count` processes; of one alone, nothing."""
    if count == 1:
        return {}
    hosts = ",".join([f"127.0.0.1:{port}"] + ["127.0.0.1"] * (count - 1))
    return {"VGGFLOW_TRAINING_HOSTS": hosts, "VGGFLOW_TRAINING_INDEX": str(index)}


def train(
    folder: Path,
    pictures: Path,
    count: int,
    what: Mapping[str, Any],
    others: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[Ended]:
    """Trains in so many processes, each with a folder of its own; `others` are those that get something else."""
    port = free_port()
    started = []
    try:
        for index in range(count):
            own = folder / str(index)
            own.mkdir(parents=True, exist_ok=True)
            asked = json.dumps(dict(what) | dict((others or {}).get(index, {})))
            environment = os.environ | {"KERAS_BACKEND": "jax"} | place(port, count, index)
            started.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(own), str(pictures), asked],
                    env=environment,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [process.communicate(timeout=SECONDS)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [
        Ended(process.returncode, _ours(text), _found(folder / str(index)))
        for index, (process, text) in enumerate(zip(started, said, strict=True))
    ]


def _ours(text: str) -> str:
    """Without what TensorFlow prints when the gate imports it."""
    return "\n".join(
        line for line in text.splitlines() if line.startswith(("train", "another", "the ", "Trace"))
    )


def _found(folder: Path) -> Mapping[str, Any]:
    path = folder / "found.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def model(folder: Path) -> bytes:
    """The model file that process 0 wrote."""
    return (folder / "0" / "model.keras").read_bytes()
