"""Features of a later phase that are computed once, from kept pixels onto the device, and never written."""

import keras
import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, comparable

from vggflow.errors import WeightsError
from vggflow.features import limit
from vggflow.features.compute import PIXELS, ComputedRows, Layers
from vggflow.models import files
from vggflow.training import on_device, phase_inputs
from vggflow.training.costs import Costs
from vggflow.training.fitting import fit
from vggflow.training.hardware import Hardware
from vggflow.training.preparation import set_up
from vggflow.training.speed_trial import CutSpeed, PhaseSpeed, Speeds


def costs_of(compute: float, decode: float = 0.0003) -> Costs:
    """A disk that writes 1 GB a second, features of 392 KB and pixels of 150 KB."""
    cuts = {
        "block3_pool": CutSpeed(compute, write=0.0004, read=0.0004, reread=0.00015),
        "block5_pool": CutSpeed(compute, write=0.000002, read=0.000002, reread=0.000001),
        PIXELS: CutSpeed(0.0, write=0.00015, read=0.00015, reread=0.00005),
    }
    behind = {name: PhaseSpeed(0.0001, 0.00005, 1.0, 0.1) for name in ("head", "top")}
    return Costs(Speeds(decode, cuts, behind), True, 8000, 1600, dict.fromkeys(cuts, 1))


@pytest.fixture
def quick_device(monkeypatch):
    """A device with room that computes sooner than a disk reads."""
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 2**40)
    monkeypatch.setattr(phase_inputs, "NO_QUESTION_BYTES", -1)
    monkeypatch.setattr(phase_inputs.Inputs, "costs", lambda _self: costs_of(0.00007))


def trained(job, tmp_path):
    result = fit(job, Listener())
    files.save(result.model, result.info, tmp_path / "model.keras")
    return comparable(result.history), (tmp_path / "model.keras").read_bytes()


def held(job):
    return {entry.kind.cut for entry in limit.contents(job.state_folder)}


@pytest.mark.parametrize(
    "train",
    [
        pytest.param({}, id="one size of batch"),
        pytest.param({"features": {"batch_size": 5}}, id="batches of another size"),
        pytest.param({"precision": "mixed"}, id="mixed", marks=pytest.mark.slow),
    ],
)
def test_features_computed_on_the_device_train_as_those_from_the_cache(make_job, tmp_path, request, train):
    kept = trained(make_job(train, state_folder=tmp_path / "kept"), tmp_path)
    request.getfixturevalue("quick_device")
    job = make_job(train, state_folder=tmp_path / "computed")
    assert trained(job, tmp_path) == kept
    assert held(job) == {"block5_pool", PIXELS}


class _Stopping(Listener):
    def on_epoch(self, row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt


def test_a_training_goes_on_with_them_where_the_device_is_full_by_then(
    make_job, quick_device, monkeypatch, tmp_path
):
    whole = trained(make_job(state_folder=tmp_path / "whole"), tmp_path)
    job = make_job(state_folder=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        fit(job, _Stopping())
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 0)
    monkeypatch.setattr(on_device, "put", lambda *_: pytest.fail("there is no room"))
    assert set_up(job).inputs.computed == [], "a new training would keep them"
    assert trained(job, tmp_path) == whole
    assert held(job) == {"block5_pool", PIXELS}


def test_a_second_training_computes_them_from_the_pixels_that_the_first_one_kept(
    make_job, quick_device, tmp_path
):
    first = trained(make_job(), tmp_path)
    listener = Listener()
    fit(make_job({"phases": [HEAD, TOP | {"epochs": 1}]}), listener)
    assert listener.features == [], "no image is decoded again"
    assert trained(make_job(), tmp_path) == first


@pytest.mark.parametrize(
    ("train", "room"),
    [
        pytest.param({}, 0, id="no room on the device"),
        pytest.param({"phases": [TOP]}, 2**40, id="the first phase, whose features a probe reads too"),
        pytest.param({"features": {"batch_size": 8, "dtype": "float16"}}, 2**40, id="kept in fewer bits"),
    ],
)
def test_they_are_kept_where_something_speaks_for_it(make_job, quick_device, monkeypatch, train, room):
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: room)
    monkeypatch.setattr(Costs, "pays", lambda *_, **__: True)
    inputs = set_up(make_job(train)).inputs
    assert inputs.computed == []
    assert "block3_pool" in inputs.kept


def test_nothing_is_computed_from_pixels_for_which_there_is_no_room(make_job, quick_device, monkeypatch):
    job = make_job()
    sizes = set_up(job).inputs._features
    room = sizes.total_bytes("block5_pool") + sizes.total_bytes(PIXELS) - 1
    inputs = set_up(make_job(feature_limit_bytes=room)).inputs
    assert inputs.computed == []


@pytest.mark.parametrize(
    ("compute", "decode", "sooner"),
    [
        pytest.param(0.00007, 0.0003, True, id="a large device"),
        pytest.param(0.001, 0.001, False, id="a small one: computing takes longer than reading"),
        pytest.param(0.00007, 0.003, True, id="few cores that decode"),
        pytest.param(0.0003, 0.003, False, id="the next training would gain"),
    ],
)
def test_computing_is_held_against_writing_once_and_reading_twice(compute, decode, sooner):
    assert costs_of(compute, decode).sooner_computed("block3_pool") is sooner


def test_what_it_takes_is_said(make_job, quick_device, monkeypatch):
    monkeypatch.setattr("vggflow.training.short_training.SHORT_SECONDS", 0)
    setup = set_up(make_job())
    reason = setup.inputs.reasons["block3_pool"]
    assert reason == "on the device: 0.07 ms an image to compute, 0.1 ms to read back"
    said = setup.expected.lines()
    assert "phase top: 2 epochs from block3_pool on the device, about 4 s" in said
    assert max(map(len, said)) <= 78
    costs = costs_of(0.00007)
    (top,) = (plan for plan in setup.plans if plan.phase.name == "top")
    # 9,600 images once; two epochs in which nothing but the step takes time.
    assert costs.phase(top, [], ["block3_pool"]) == pytest.approx(9600 * 0.00007 + 1 + 2 * 0.98)


def test_numbers_that_are_not_finite_are_refused_as_in_a_pass():
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    spoilt = keras.layers.Conv2D(2, 3, name="spoilt", bias_initializer=keras.initializers.Constant(np.nan))
    model = keras.Model(pixels, spoilt(keras.ops.cast(pixels, "float32")))

    class Pixels:
        def __len__(self):
            return 3

        def gather(self, indices):
            return np.zeros((len(indices), 32, 32, 3), np.uint8)

    rows = ComputedRows(Layers(model, ["spoilt"], 2, xla=False), Pixels())
    with pytest.raises(WeightsError, match="not finite"):
        rows.gather(np.arange(3))
