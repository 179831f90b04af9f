"""What is tried of a machine, what follows from it for the cache, and what is said beforehand."""

import dataclasses
import errno
import json
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest
from tiny_training import HEAD, TOP, Listener

from vggflow.data import listing
from vggflow.features import limit, store
from vggflow.features.compute import PIXELS
from vggflow.features.store import FOLDER, StoredRows
from vggflow.models import files
from vggflow.settings import Phase
from vggflow.training import costs, phase_inputs, short_training, speed_trial
from vggflow.training.costs import Costs, duration
from vggflow.training.fitting import fit
from vggflow.training.phases import Plan
from vggflow.training.preparation import set_up
from vggflow.training.speed_trial import CutSpeed, PhaseSpeed, Speeds

GB = 10**9


@pytest.fixture
def always_tried(monkeypatch):
    """However small it is."""
    monkeypatch.setattr(phase_inputs, "NO_QUESTION_BYTES", -1)
    monkeypatch.setattr(short_training, "SHORT_SECONDS", 0)
    monkeypatch.setattr(speed_trial, "SECONDS", 0.02)
    monkeypatch.setattr(store, "MOST_ROWS_WRITTEN", 8)


def plan(epochs: int, cut: str | None = "block4_pool") -> Plan:
    return Plan(Phase(name="top", epochs=epochs), ("block5_conv1",), cut)


def machine(*, overlapping: bool = False, size: int = 1000, **seconds: float) -> Costs:
    given = {"compute": 0.1, "write": 0.001, "read": 0.01, "reread": 0.001} | seconds
    cuts = {"block4_pool": CutSpeed(**given), PIXELS: CutSpeed(0.0, 0.0, 0.002, 0.0002)}
    behind = {"top": PhaseSpeed(step=0.03, measure=0.01, start=2.0, epoch=0.5)}
    bytes_of = {"block4_pool": size, PIXELS: size}
    return Costs(Speeds(0.005, cuts, behind), overlapping, 1000, 200, bytes_of)


def test_a_processor_does_one_after_the_other_and_a_device_computes_while_images_are_read():
    one_by_one, overlapping = machine(), machine(overlapping=True)
    assert one_by_one.feature_pass(["block4_pool", PIXELS], 1000) == pytest.approx(1000 * 0.106)
    assert overlapping.feature_pass(["block4_pool", PIXELS], 1000) == pytest.approx(1000 * 0.1)
    assert one_by_one.epoch(plan(1), ["block4_pool"]) == pytest.approx(1000 * 0.031 + 200 * 0.011 + 0.5)
    assert overlapping.epoch(plan(1), ["block4_pool"]) == pytest.approx(1000 * 0.03 + 200 * 0.01 + 0.5)
    # From pixels in memory, from files.
    assert one_by_one.epoch(plan(1), [PIXELS]) == pytest.approx(1000 * 0.1302 + 200 * 0.1102 + 0.5)
    assert one_by_one.epoch(plan(1), []) == pytest.approx(1000 * 0.135 + 200 * 0.115 + 0.5)
    assert one_by_one.epoch(plan(1, None), []) == pytest.approx(1000 * 0.035 + 200 * 0.015 + 0.5)
    assert one_by_one.phase(plan(3), []) == pytest.approx(2 + 3 * (1000 * 0.135 + 200 * 0.115 + 0.5))


def test_what_does_not_fit_into_memory_is_read_from_disk_in_every_epoch(monkeypatch):
    monkeypatch.setattr(costs.psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GB))
    small, large = machine(size=3 * GB), machine(size=5 * GB)
    assert large.epoch(plan(1), ["block4_pool"]) - small.epoch(plan(1), ["block4_pool"]) == pytest.approx(
        1200 * 0.009
    )
    assert "10 ms to read back" in large.why("block4_pool")


@pytest.mark.parametrize(
    ("seconds", "epochs", "pays"),
    [
        ({}, 1, True),
        ({"compute": 0.0005}, 8, False),
        ({"reread": 0.2}, 8, False),
        ({"write": 0.35}, 3, False),
        # What is written once is read in many epochs.
        ({"write": 0.35}, 8, True),
    ],
)
def test_features_are_worth_keeping_where_reading_them_back_beats_computing_them(seconds, epochs, pays):
    assert machine(**seconds).pays("block4_pool", [plan(epochs)], pixels_kept=True) is pays


def test_two_phases_share_what_one_of_them_writes():
    slow_disk = machine(write=0.35)
    assert not slow_disk.pays("block4_pool", [plan(2)], pixels_kept=True)
    assert slow_disk.pays("block4_pool", [plan(2), plan(2)], pixels_kept=True)


def test_the_pixels_would_be_read_and_written_too_where_features_are_not_kept():
    # Either way all images are decoded once.
    assert machine(compute=0.0015).pays("block4_pool", [plan(4)], pixels_kept=True)


@pytest.mark.slow
def test_a_trial_on_another_device_finds_the_same_parts(make_job, monkeypatch, always_tried):
    """Whole batches, each program once: what a GPU is asked; here the processor answers."""
    job = make_job()
    here = set_up(job).inputs.costs().speeds
    monkeypatch.setattr(speed_trial.Trial, "_key", lambda self: "another device")
    measure = speed_trial.Trial._measure
    monkeypatch.setattr(
        speed_trial.Trial, "_measure", lambda self: measure(dataclasses.replace(self, accelerated=True))
    )
    there = set_up(job).inputs.costs().speeds
    assert there.cuts.keys() == here.cuts.keys()
    assert there.phases.keys() == here.phases.keys()
    assert 0 < there.cuts["block3_pool"].compute < there.cuts["block5_pool"].compute
    for name, phase in there.phases.items():
        assert phase.step > 0
        assert phase.step < 20 * here.phases[name].step
        assert phase.start > phase.step


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.00003, "0.03 ms"),
        (0.0123, "12 ms"),
        (0.94, "940 ms"),
        (0.97, "1 s"),
        (12.4, "12 s"),
        (89, "89 s"),
        (91, "2 min"),
        (5399, "90 min"),
        (12600, "3.5 h"),
    ],
)
def test_times_are_said_with_as_many_digits_as_they_are_worth(seconds, said):
    assert duration(seconds) == said


def slowed(monkeypatch, owner, name, seconds):
    """Lets a method take longer, by as many seconds as `seconds` says of the object and the rows it is given."""
    quick = getattr(owner, name)

    def slow(self, rows, *more, **named):
        time.sleep(seconds(self, rows))
        return quick(self, rows, *more, **named)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.slow
def test_a_machine_that_reads_slowly_computes_and_one_that_computes_slowly_reads(
    make_job, monkeypatch, always_tried, tmp_path
):
    # 100 KB a second: features of block3_pool are larger than the pixels that they come from, others smaller.
    slowed(monkeypatch, StoredRows, "gather", lambda stored, rows: len(rows) * stored._kind.row_bytes * 1e-5)
    inputs = set_up(make_job(model={"width": 0.25})).inputs
    assert inputs.kept == ["block5_pool", PIXELS]
    assert inputs.reasons["block3_pool"].startswith("not kept: ")
    assert _told(inputs.reasons["block3_pool"])[1] >= 40
    slowed(monkeypatch, keras.Model, "predict_on_batch", lambda _, rows: 0.15 * len(rows))
    inputs = set_up(make_job(model={"width": 0.25}, state_folder=tmp_path / "other")).inputs
    assert inputs.kept == ["block5_pool", "block3_pool"]
    assert all(reason.startswith("kept: ") for reason in inputs.reasons.values())
    assert min(_told(reason)[0] for reason in inputs.reasons.values()) >= 150


def _told(reason):
    """Milliseconds to compute and to read back."""
    return [float(number) for number in re.findall(r"([\d.]+) ms", reason)]


@pytest.mark.slow
def test_what_was_tried_once_is_remembered_and_tried_anew_where_it_is_damaged(
    make_job, monkeypatch, always_tried, tmp_path
):
    job = make_job()
    first = set_up(job).inputs.costs().speeds
    monkeypatch.setattr(speed_trial.Trial, "_measure", lambda self: pytest.fail("tried again"))
    assert set_up(job).inputs.costs().speeds == first
    path = tmp_path / "state" / FOLDER / speed_trial.REMEMBERED
    (key,) = json.loads(path.read_text())
    monkeypatch.setattr(speed_trial.Trial, "_measure", lambda self: first)
    for damaged in ("[]", "{", json.dumps({key: {"decode": 1.0}}), json.dumps({key: None})):
        path.write_text(damaged)
        assert set_up(job).inputs.costs().speeds == first
        assert json.loads(path.read_text())[key]["decode"] == first.decode


@pytest.mark.slow
def test_another_network_and_other_phases_are_tried_for_themselves(
    make_job, monkeypatch, always_tried, tmp_path
):
    first = set_up(make_job()).inputs.costs().speeds
    monkeypatch.setattr(speed_trial.Trial, "_measure", lambda self: first)
    for train, model in (({}, {}), ({}, {"width": 0.125}), ({"phases": [TOP]}, {}), ({"seed": 8}, {})):
        set_up(make_job(train, model))
    path = tmp_path / "state" / FOLDER / speed_trial.REMEMBERED
    assert len(json.loads(path.read_text())) == 3, "another seed is no other speed"


@pytest.mark.slow
def test_a_trial_leaves_no_trace_in_the_result(make_job, monkeypatch, tmp_path):
    def trained(state):
        result = fit(make_job(model={"dropout": 0.3}, state_folder=tmp_path / state), Listener())
        files.save(result.model, result.info, tmp_path / "model.keras")
        return (tmp_path / "model.keras").read_bytes()

    untried = trained("untried")
    assert not (tmp_path / "untried" / FOLDER / speed_trial.REMEMBERED).exists()
    monkeypatch.setattr(short_training, "SHORT_SECONDS", 0)
    assert trained("tried") == untried
    assert (tmp_path / "tried" / FOLDER / speed_trial.REMEMBERED).exists()
    assert not list((tmp_path / "tried").rglob(f"{store.TRIAL}*"))


def test_a_training_says_beforehand_what_it_will_take(make_job, monkeypatch, always_tried, capsys):
    monkeypatch.setattr(phase_inputs, "NO_QUESTION_BYTES", 2**26)
    stopping = TOP | {"early_stopping": {"monitor": "val_loss", "patience": 1}}
    fit(make_job({"phases": [HEAD, stopping]}), Listener())
    said = capsys.readouterr().err
    assert "features: 40 images, about " in said
    assert "phase head: 2 epochs from features of block5_pool, about " in said
    assert "phase top: at most 2 epochs from features of block3_pool, about " in said
    expected = set_up(make_job({"phases": [HEAD, stopping]})).expected
    assert expected.images == 0, "all are cached by now"
    assert all(layer.trainable for layer in set_up(make_job()).model.layers if layer.weights)
    assert max(map(len, expected.lines())) <= 78
    assert expected.to_dict()["seconds"] == pytest.approx(sum(phase.seconds for phase in expected.phases))


@pytest.mark.slow
def test_damaged_pictures_that_nobody_has_looked_at_yet_leave_an_estimate(
    make_job, pictures, always_tried, tmp_path
):
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    first = sorted((data / "train").rglob("*.png"))[:3]
    for path in first:
        path.write_bytes(path.read_bytes()[:40])
    job = make_job(data=data, manifest=listing.listed(data))
    assert set_up(job).expected.seconds > 0


def test_a_short_training_is_begun_without_a_trial(make_job, tmp_path):
    setup = set_up(make_job())
    assert setup.expected is None
    assert not (tmp_path / "state" / FOLDER / speed_trial.REMEMBERED).exists()
    assert setup.inputs.reasons == {}


@pytest.mark.slow
def test_a_full_disk_ends_no_training_and_what_a_killed_trial_left_goes(
    make_job, monkeypatch, always_tried, tmp_path
):
    def full(_folder, _kind):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(speed_trial, "_disk", full)
    inputs = set_up(make_job()).inputs
    assert inputs.kept == [PIXELS], "nothing is known of the disk but that it was full"
    path = tmp_path / "state" / FOLDER
    assert not (path / speed_trial.REMEMBERED).exists(), "the next training tries again"
    left = path / f"{store.TRIAL}old"
    for folder in (left, path / f"{store.TRIAL}new"):
        (folder / "features").mkdir(parents=True)
    os.utime(left, (0, 0))
    limit.evict(tmp_path / "state", 10**9)
    assert [each.name for each in path.iterdir()] == [f"{store.TRIAL}new"]
