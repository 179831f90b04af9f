"""Rows that lie on the device: the same training, with numbers in place of rows."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from array_rows import ArrayRows
from tiny_training import HEAD, TOP, Listener, comparable

from vggflow.models import files
from vggflow.processes import nvidia_smi
from vggflow.training import on_device
from vggflow.training.fitting import fit
from vggflow.training.hardware import Hardware

AUGMENTED = {
    "augmentation": {"horizontal_flip": True, "zoom": 0.2},
    "phases": [HEAD | {"augmentation": False}, TOP | {"freeze_through": "none"}],
}


def trained(job, tmp_path, listener=None):
    result = fit(job, listener or Listener())
    files.save(result.model, result.info, tmp_path / "model.keras")
    return comparable(result.history), (tmp_path / "model.keras").read_bytes()


@pytest.mark.parametrize(
    "train",
    [
        pytest.param({}, id="features"),
        pytest.param({"precision": "mixed"}, id="mixed", marks=pytest.mark.slow),
        pytest.param(AUGMENTED, id="augmented pixels", marks=pytest.mark.slow),
    ],
)
def test_a_training_ends_the_same_wherever_its_rows_lie(make_job, monkeypatch, tmp_path, train):
    host = trained(make_job(train, state_folder=tmp_path / "host"), tmp_path)
    put = []
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 2**40)
    quick = on_device.put
    monkeypatch.setattr(on_device, "put", lambda *given: put.append(1) or quick(*given))
    assert trained(make_job(train, state_folder=tmp_path / "device"), tmp_path) == host
    assert len(put) == 2, "both phases"


def test_rows_stay_on_the_host_where_the_device_is_full_after_all(make_job, monkeypatch, tmp_path):
    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: another program took what was free")

    def broken(*_):
        raise RuntimeError("the device failed")

    host = trained(make_job({"phases": [HEAD]}, state_folder=tmp_path / "host"), tmp_path)
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 2**40)
    monkeypatch.setattr(on_device, "put", full)
    assert trained(make_job({"phases": [HEAD]}, state_folder=tmp_path / "full"), tmp_path) == host
    monkeypatch.setattr(on_device, "put", broken)
    with pytest.raises(RuntimeError, match="the device failed"):
        fit(make_job({"phases": [HEAD]}, state_folder=tmp_path / "broken"), Listener())


class _Stopping(Listener):
    def on_epoch(self, row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_training_goes_on_with_its_rows_on_the_device(make_job, monkeypatch, tmp_path):
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 2**40)
    whole = trained(make_job(AUGMENTED, state_folder=tmp_path / "whole"), tmp_path)
    job = make_job(AUGMENTED, state_folder=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        fit(job, _Stopping())
    assert trained(job, tmp_path) == whole


def test_rows_are_put_there_part_after_part_and_found_by_their_numbers(monkeypatch):
    monkeypatch.setattr(on_device, "PART_BYTES", 3 * 4 * 2)
    splits = [
        ArrayRows(np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2))
        for start, count in ((0, 5), (100, 4))
    ]
    inputs = keras.Input((2,))
    network, (first, second) = on_device.put(keras.Model(inputs, 2 * inputs), splits)
    assert (len(first), len(second)) == (5, 4)
    for numbers, rows in ((first, splits[0]), (second, splits[1])):
        some = np.array([3, 0, 2])
        found = keras.ops.convert_to_numpy(network(numbers.gather(some)))
        np.testing.assert_array_equal(found, 2 * rows.gather(some))
    assert network.trainable_variables == []
    assert on_device.inner(network) is not network
    assert on_device.inner(on_device.inner(network)) is on_device.inner(network)


@pytest.mark.parametrize(("free", "fit_there"), [(None, False), (2**20, False), (2**31, True)])
def test_rows_stay_with_the_host_where_the_device_has_no_room(free, fit_there):
    inputs = keras.Input((256,))
    network = keras.Model(inputs, keras.layers.Dense(10)(inputs))
    rows = ArrayRows(np.zeros((1000, 256), np.float32))
    hardware = SimpleNamespace(free_bytes=lambda: free)
    assert on_device.fits(network, on_device.bytes_of([rows]), 32, hardware) is fit_there


@pytest.mark.parametrize(
    ("said", "free"),
    [(["NVIDIA H200, 143156 MiB", "NVIDIA T4, 1 MiB"], 143156 * 2**20), ([], None), (["odd"], None)],
)
def test_the_memory_of_the_first_gpu_is_what_the_driver_says(monkeypatch, said, free):
    monkeypatch.setattr(nvidia_smi, "gpus", lambda: said)
    assert nvidia_smi.free_bytes() == free
