"""Features and checkpoints are kept apart by all that changes the last digits of a result."""

import os
import subprocess
import sys

import keras
import pytest
from tiny_training import HEAD, Listener, settings

from vggflow import packages
from vggflow.features import limit
from vggflow.models.switches import SWITCHES
from vggflow.training import arithmetic, hardware
from vggflow.training.fitting import fit
from vggflow.training.preparation import set_up

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a matter of TensorFlow")
jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="a matter of JAX")


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_changes_what_features_and_checkpoints_are_named_by(tmp_path, monkeypatch, switch):
    here = hardware.prepare(settings().train, tmp_path)
    found = [here.arithmetic()]
    for value in ("0", "1"):
        monkeypatch.setenv(switch, value)
        found.append(here.arithmetic())
    assert len(set(found)) == 3
    assert f"{switch} 1" in found[2].split(arithmetic.SEPARATOR)


def test_the_libraries_that_compute_are_named_with_their_versions(tmp_path):
    found = arithmetic.parts("CPU")
    for name in ("keras", "numpy", *packages.BACKENDS[keras.backend.backend()]):
        assert found[name] == packages.installed(name) != ""
    assert found["blas"] and found["instructions"] and int(found["cores"]) >= 1
    assert (found["floatx"], found["epsilon"]) == ("float32", "1e-07")


@jax_only
def test_jaxlib_and_its_settings_are_named_however_they_were_set():
    import jax

    before = arithmetic.parts("CPU")
    assert before["jaxlib"] == packages.installed("jaxlib")
    with jax.default_matmul_precision("bfloat16"):
        assert arithmetic.parts("CPU")["jax_default_matmul_precision"] == "bfloat16"
    assert before["jax_default_matmul_precision"] != "bfloat16"


@tensorflow_only
def test_tf32_that_a_program_switched_off_is_another_arithmetic():
    import tensorflow as tf

    before = arithmetic.parts("GPU")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        assert arithmetic.difference(
            arithmetic.written(arithmetic.parts("GPU")), arithmetic.written(before)
        ) == ("now tensor_float_32 False; then tensor_float_32 True")
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)
    assert {"cuda_version", "cudnn_version"} <= set(before)


def test_flags_in_another_order_are_the_same_and_the_last_of_two_wins(monkeypatch):
    def named(flags):
        monkeypatch.setenv("XLA_FLAGS", flags)
        return arithmetic.parts("CPU")["XLA_FLAGS"]

    assert named("--b=1 --a=2") == named("--a=2  --b=1") == "--a=2 --b=1"
    assert named("--a=1 --a=2") != named("--a=2 --a=1")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binding to cores is Linux's")
@pytest.mark.skipif(os.cpu_count() == 1, reason="needs a second core")
def test_a_process_bound_to_one_core_is_another_machine():
    """Its threads divide sums otherwise: the same training ended in other bytes."""
    allowed = os.sched_getaffinity(0)
    before = arithmetic.parts("CPU")["cores"]
    os.sched_setaffinity(0, {min(allowed)})
    try:
        bound = arithmetic.parts("CPU")["cores"]
    finally:
        os.sched_setaffinity(0, allowed)
    assert (before, bound) == (str(len(allowed)), "1")


def test_features_computed_under_another_switch_are_not_taken_and_the_line_names_it(
    make_job, monkeypatch, capfd
):
    job = make_job({"phases": [HEAD]})
    fit(job, Listener())
    assert "computed otherwise" not in capfd.readouterr().err
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    again = Listener()
    fit(job, again)
    assert again.ends["feature_images"] == 40
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "computed otherwise" in line]
    assert said.endswith("now ONEDNN_DEFAULT_FPMATH_MODE BF16; then nothing more")
    assert len(limit.contents(job.state_folder)) == 2
    third = Listener()
    fit(job, third)
    assert third.ends["feature_images"] == 0


def test_a_checkpoint_from_under_another_switch_is_not_gone_on_with(make_job, monkeypatch):
    job = make_job({"phases": [HEAD]})
    first = set_up(job).checkpoints.folder
    assert set_up(job).checkpoints.folder == first
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert set_up(job).checkpoints.folder != first


def test_a_line_of_parts_names_only_what_differs():
    then = {"keras": "3.15.1", "numpy": "2.4.0"}
    now = then | {"keras": "3.16.0", "cores": "2"}
    said = arithmetic.difference(arithmetic.written(now), arithmetic.written(then))
    assert said == "now keras 3.16.0, cores 2; then keras 3.15.1"


LAYERS = """
import hashlib, os, sys
os.sched_setaffinity(0, set(map(int, sys.argv[1].split(","))))
from vggflow.models import start_keras
start_keras.start()
import keras, numpy as np
from vggflow.features.compute import forward
from vggflow.models.builder import build
from vggflow.settings import ModelSettings

keras.mixed_precision.set_dtype_policy(sys.argv[2])
tiny = ModelSettings(image_size_px=96, weights="none", width=0.25, builder="sequential")
model = build(tiny, ("a", "b"), None, seed=1)
run = forward(model, ["block3_pool", "block5_pool"], xla=keras.backend.backend() == "jax")
pixels = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3)).astype(np.uint8)
found = b"".join(np.ascontiguousarray(rows).tobytes() for rows in map(np.asarray, run(pixels)))
print(hashlib.sha256(found).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_frozen_layers_give_the_same_on_one_core_as_on_all(policy):
    cores = sorted(os.sched_getaffinity(0))
    # Nothing holds threads back: what the other tests set for speed would make one core of all.
    free = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    found = {
        subprocess.run(
            [sys.executable, "-c", LAYERS, ",".join(map(str, chosen)), policy],
            env=free,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for chosen in (cores[:1], cores)
    }
    assert len(found) == 1


def test_what_features_are_named_by_does_not_say_how_many_cores_there_are(tmp_path):
    here = hardware.prepare(settings().train, tmp_path)
    told = here.feature_arithmetic()
    assert "cores" in here.arithmetic() and "cores" not in told
    # All else is in both.
    of_training = [part for part in here.arithmetic().split("; ") if not part.startswith(("cores", "device"))]
    assert [part for part in told.split("; ") if not part.startswith("device")] == of_training
