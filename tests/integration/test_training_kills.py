"""One training, killed again and again: it ends as if nothing had been."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TINY
from training_program import Program, TrackingServer, make, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

KILLS = 20
# A cut with cached features, one with cached pixels and random changes, dropout, a falling rate.
PHASES = [
    {"name": "head", "freeze_through": "block5_pool", "epochs": 8, "augmentation": False},
    {
        "name": "top",
        "freeze_through": "block3_conv3",
        "learning_rate": 0.0005,
        "schedule": "cosine",
        "epochs": 16,
        "augmentation": False,
        "early_stopping": {"monitor": "val_accuracy", "patience": 5},
    },
    {"name": "all", "learning_rate": 0.0001, "epochs": 120},
]
TRAIN = {"phases": PHASES, "augmentation": {"horizontal_flip": True, "zoom": 0.1}}
MODEL = {"dropout": 0.3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A training that nobody killed."""
    folder = tmp_path_factory.mktemp("kills")
    server = TrackingServer(folder)
    program = make(folder / "whole", server, TRAIN, MODEL)
    assert program.start().wait() == 0, program.said()
    yield program
    server.signal(signal.SIGKILL)


def die_within(program: Program, kind: str) -> None:
    """Starts the training and lets it die within a write of this kind."""
    script = Path(__file__).with_name("train_and_die.py")
    assert program.start(str(script), kind).wait() == -signal.SIGKILL, f"{kind}: {program.said()}"


def kill_after_an_epoch(program: Program) -> None:
    """Starts the training and kills it as soon as the checkpoint holds one more epoch."""
    before = program.epochs()
    process = program.start()
    wait_until(lambda: program.epochs() > before or process.poll() is not None, 120)
    assert process.poll() is None, program.said()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def half_written(program: Program) -> list[str]:
    """Files that were being written when the training died, wherever they lie."""
    places = (program.state, program.root / "model")
    return [path.name for place in places for path in place.rglob(".*.*") if path.is_file()]


def test_killed_twenty_times_and_within_each_kind_of_write_it_ends_the_same(whole: Program) -> None:
    program = whole.copy("killed")
    runs_before = len(program.server.runs())
    for kind in ("run opened", "parameters"):
        die_within(program, kind)
    for kind in ("features", "listing", "best", "checkpoint"):
        before = len(half_written(program))
        die_within(program, kind)
        assert len(half_written(program)) > before, f"{kind}: the write was not interrupted"
    phases = set()
    for _ in range(KILLS):
        kill_after_an_epoch(program)
        phases.add(program.checkpoint()["phase"])
    assert len(phases) > 1, "the kills must lie on both sides of the border between two phases"
    for kind in ("batch", "batch taken", "model", "history", "run"):
        die_within(program, kind)
    assert program.start().wait() == 0, program.said()
    model, history, points = whole.result()
    resumed_model, resumed_history, resumed_points = program.result()
    assert resumed_model == model
    assert resumed_history == history
    assert resumed_points == points
    steps = len({step for key, step in points if key == "step/loss"})
    assert steps == len(history) * 16 // TINY["train"]["batch_size"], "16 images, batch by batch"
    assert whole.server.status(program.run_id()) == "FINISHED"
    assert len(whole.server.runs()) == runs_before + 1, "a run was opened and never found again"
    assert not list((program.root / "model").glob(".*")), "what the killed ones left was not removed"


def test_terminated_it_leaves_a_checkpoint_and_143_and_goes_on_later(whole: Program) -> None:
    program = whole.copy("terminated")
    process = program.start()
    wait_until(lambda: program.epochs() >= 3 or process.poll() is not None, 120)
    process.terminate()
    assert process.wait(timeout=20) == 143, program.said()
    checkpoint = program.checkpoint()
    assert len(checkpoint["rows"]) >= 3
    assert whole.server.status(checkpoint["run_id"]) == "KILLED"
    outcome = json.loads((program.root / ".vggflow/outcome/train.json").read_text())
    assert outcome["exit_code"] == 143
    assert program.start().wait() == 0, program.said()
    assert program.run_id() == checkpoint["run_id"]
    assert program.result() == whole.result()
