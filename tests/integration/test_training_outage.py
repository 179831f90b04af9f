"""The tracking server goes away for a minute in mid-training: nothing stops, no point is lost."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_program import Program, TrackingServer, make, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SECONDS_AWAY = 60
# MLflow's client asks again after up to two minutes.
SECONDS_TO_CATCH_UP = 300
# Hours of training: it is terminated when enough is seen.
TRAIN = {"phases": [{"name": "all", "learning_rate": 0.0005, "epochs": 20_000}]}
STEPS = 2  # 16 images in batches of 8


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A training that does not end by itself."""
    server = TrackingServer(tmp_path)
    yield make(tmp_path / "away", server, TRAIN, {})
    server.signal(signal.SIGKILL)


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_a_server_that_is_away_for_a_minute_costs_no_point(program: Program, way: str) -> None:
    process = program.start()
    wait_until(lambda: program.epochs() >= 10 or process.poll() is not None, 180)
    program.server.signal(signal.SIGSTOP if way == "stopped" else signal.SIGKILL)
    before = program.epochs()
    time.sleep(SECONDS_AWAY)
    back = program.epochs()
    assert back > before + 10, f"the training waited for the server: {program.said()}"
    if way == "stopped":
        program.server.signal(signal.SIGCONT)
    else:
        program.server.start()
    run_id = program.checkpoint()["run_id"]
    wait_until(lambda: program.server.last_step(run_id, "val_loss") > back, SECONDS_TO_CATCH_UP, every=1.0)
    process.terminate()
    assert process.wait(timeout=20) == 143, program.said()
    rows = program.checkpoint()["rows"]
    points = program.server.points(run_id)
    assert len(points) == len({(key, step) for key, step, _ in points})
    for key in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "memory_mb"):
        held = {step: value for name, step, value in points if name == key}
        assert sorted(held) == list(range(1, len(held) + 1)) and len(held) > back, key
        assert held == {row["epoch"]: row[key] for row in rows[: len(held)]}, key
    for key in ("step/loss", "step/accuracy", "step/learning_rate"):
        steps = sorted(step for name, step, _ in points if name == key)
        assert steps == list(range(1, len(steps) + 1)) and len(steps) > STEPS * back, key
