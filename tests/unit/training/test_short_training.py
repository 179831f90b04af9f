"""Which trainings are begun without a trial of the machine's speed."""

from types import SimpleNamespace

import pytest
from tiny_training import HEAD, TOP

from vggflow.features.compute import PIXELS
from vggflow.training import matrix_speed, phase_inputs, short_training
from vggflow.training.hardware import Hardware
from vggflow.training.preparation import set_up
from vggflow.training.short_training import is_short


@pytest.fixture
def machine(monkeypatch):
    """A cache on some machine, where a training takes so many multiply-adds."""

    def make(kind, multiply_adds, cores=16, peak=None, cache="auto"):
        monkeypatch.setattr(short_training, "_multiply_adds", lambda *_: multiply_adds)
        monkeypatch.setattr(short_training, "usable_cores", lambda: cores)

        def measure(*_):
            assert peak is not None, "nothing had to be measured"
            return peak

        monkeypatch.setattr(short_training, "multiply_adds_a_second", measure)
        hardware = Hardware(kind, (f"{kind}:0",), "", "mixed_bfloat16", False, True)
        return SimpleNamespace(hardware=hardware, features=SimpleNamespace(cache=cache))

    return make


PLANS = [SimpleNamespace(phase=SimpleNamespace(epochs=3)), SimpleNamespace(phase=SimpleNamespace(epochs=3))]
H200, T4 = 355e12, 30e12


@pytest.mark.parametrize(
    ("kind", "multiply_adds", "more", "short"),
    [
        pytest.param("CPU", 1.9e12, {}, True, id="ten seconds of two cores"),
        pytest.param("CPU", 2.1e12, {}, False, id="more than that"),
        pytest.param("GPU", 1.9e11, {}, True, id="whatever the GPU"),
        pytest.param("GPU", 6e14, {"peak": H200}, True, id="two phases on a large GPU"),
        pytest.param("GPU", 6e14, {"peak": T4}, False, id="and on a small one"),
        pytest.param("GPU", 6e14, {"peak": H200, "cores": 8}, False, id="fewer cores that decode"),
        pytest.param("GPU", 6e14, {"cores": 2}, False, id="and so few that no GPU helps"),
        pytest.param("GPU", 6e13, {"cores": 16, "cache": "off"}, False, id="decoded in every epoch"),
    ],
)
def test_what_is_over_in_ten_seconds_is_short(machine, kind, multiply_adds, more, short):
    assert is_short(None, PLANS, 9600, 8000, machine(kind, multiply_adds, **more)) is short


def test_a_short_training_on_a_device_asks_for_no_trial(make_job, monkeypatch):
    monkeypatch.setattr(Hardware, "free_bytes", lambda _self: 2**40)
    monkeypatch.setattr(phase_inputs, "NO_QUESTION_BYTES", -1)
    monkeypatch.setattr(phase_inputs.Inputs, "costs", lambda _self: pytest.fail("tried"))
    inputs = set_up(make_job({"phases": [HEAD, TOP]})).inputs
    assert (inputs.kept, inputs.computed) == (["block5_pool", PIXELS], ["block3_pool"])


def test_matrices_are_multiplied_as_fast_as_they_are():
    few, many = (matrix_speed.multiply_adds_a_second("float32", side) for side in (16, 512))
    assert 1e5 < few < many < 1e14
