"""The tracking server goes away for a minute in mid-training: nothing stops, no point is lost."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_program import Program, TrackingServer, make, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SECONDS_AWAY = 60
# Some minutes of training, so that it is under way before and after.
TRAIN = {"phases": [{"name": "all", "learning_rate": 0.0005, "epochs": 700}], "features": {"cache": "off"}}
MODEL = {"image_size_px": 64}


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A training of some minutes."""
    server = TrackingServer(tmp_path)
    yield make(tmp_path / "away", server, TRAIN, MODEL)
    server.signal(signal.SIGKILL)


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_a_server_that_is_away_for_a_minute_costs_no_point(program: Program, way: str) -> None:
    process = program.start()
    wait_until(lambda: program.epochs() >= 10 or process.poll() is not None, 180)
    away = signal.SIGSTOP if way == "stopped" else signal.SIGKILL
    program.server.signal(away)
    before = program.epochs()
    time.sleep(SECONDS_AWAY)
    assert process.poll() is None, program.said()
    assert program.epochs() > before + 10, "the training waited for the server"
    if way == "stopped":
        program.server.signal(signal.SIGCONT)
    else:
        program.server.start()
    assert process.wait() == 0, program.said()
    points = program.server.points(program.run_id())
    history = json.loads((program.root / "model/history.json").read_text())
    assert len(points) == len({(key, step) for key, step, _ in points})
    for key in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "memory_mb"):
        held = {step: value for name, step, value in points if name == key}
        assert held == {row["epoch"]: row[key] for row in history}, key
    for key in ("step/loss", "step/accuracy", "step/learning_rate"):
        assert sorted(step for name, step, _ in points if name == key) == list(range(1, 2 * len(history) + 1))
    assert program.server.status(program.run_id()) == "FINISHED"
