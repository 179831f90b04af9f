"""Devices, precision, augmentation, and memory that runs out."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, comparable, settings

from vggflow.errors import SettingsError
from vggflow.features import limit
from vggflow.models import builder, files
from vggflow.settings import AugmentationSettings
from vggflow.training import augmentation, checkpoints, hardware, precision
from vggflow.training.fitting import fit
from vggflow.training.learner import Learner
from vggflow.training.preparation import set_up

AUGMENTED = {
    "augmentation": {"horizontal_flip": True, "shear": 0.1, "zoom": 0.1, "rotation": 0.05, "brightness": 0.1},
    "features": {"cache": "off"},
}
tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a matter of TensorFlow")


def test_what_training_runs_on_is_in_the_facts(tmp_path):
    facts = hardware.prepare(settings().train, tmp_path).facts()
    assert facts["backend"] == keras.backend.backend()
    assert facts["xla"] == ("on" if keras.backend.backend() == "jax" else "off")
    assert facts["precision"] == "float32"
    assert facts["device"]


@pytest.mark.slow
@tensorflow_only
def test_two_devices_of_a_host_learn_what_one_learns(pictures, tmp_path):
    """In a process of its own: logical devices are made before TensorFlow starts."""
    script = Path(__file__).with_name("train_on_two_devices.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(pictures)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert float(result.stdout.split()[-1]) < 1e-4
    sys.stdout.write(result.stdout)  # for `pytest -rP`


def test_a_batch_that_devices_cannot_share_is_refused_with_one_that_they_can(tmp_path):
    with pytest.raises(SettingsError, match=r"batch_size 5 .* 2 devices: use 6"):
        hardware.prepare(settings({"batch_size": 5, "devices": 2}).train, tmp_path)


def test_more_devices_than_there_are_is_one_line_that_says_how_many(tmp_path):
    # Started: until then both frameworks make as many of a processor as are asked for.
    hardware.prepare(settings().train, tmp_path)
    keras.ops.convert_to_numpy(keras.ops.zeros(1))
    with pytest.raises(SettingsError, match=r"train.devices is 4, but there is 1 .*: set train.devices to 1"):
        hardware.prepare(settings({"devices": 4}).train, tmp_path)


def test_one_device_that_is_asked_for_learns_what_the_default_learns(make_job, tmp_path):
    digests = set()
    for number, train in enumerate(({}, {"devices": 1})):
        trained = fit(make_job(train | {"phases": [HEAD, TOP | {"epochs": 1}]}), Listener())
        files.save(trained.model, trained.info, tmp_path / f"{number}.keras")
        digests.add((tmp_path / f"{number}.keras").read_bytes())
    assert len(digests) == 1


@pytest.mark.slow
def test_mixed_precision_computes_in_16_bits_and_saves_32(make_job, tmp_path):
    phases = [TOP | {"epochs": 1}]
    full = fit(make_job({"phases": phases}), Listener())
    mixed = fit(make_job({"phases": phases, "precision": "mixed"}), Listener())
    assert mixed.facts["precision"] == "mixed_bfloat16"
    assert mixed.history[0]["loss"] != full.history[0]["loss"]
    assert mixed.history[0]["loss"] == pytest.approx(full.history[0]["loss"], abs=0.1)
    files.save(mixed.model, mixed.info, tmp_path / "model.keras")
    loaded, _ = files.load(tmp_path / "model.keras")
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}


def test_mixed_precision_sends_each_image_through_the_frozen_layers_once(make_job):
    listener = Listener()
    job = make_job({"phases": [HEAD | {"epochs": 1}, TOP | {"epochs": 1}], "precision": "mixed"})
    fit(job, listener)
    assert listener.ends["feature_images"] == 40


@pytest.mark.slow
def test_features_of_mixed_precision_are_kept_in_16_bits_and_lose_nothing_by_it(make_job, tmp_path):
    trained = {}
    for dtype in ("auto", "float32"):
        options = {"precision": "mixed", "features": {"dtype": dtype, "batch_size": 8}, "phases": [HEAD, TOP]}
        state = tmp_path / dtype
        result = fit(make_job(options, state_folder=state), Listener())
        files.save(result.model, result.info, tmp_path / "model.keras")
        kept = {entry.kind.dtype: entry.size_bytes for entry in limit.contents(state)}
        trained[dtype] = (tmp_path / "model.keras").read_bytes(), comparable(result.history), kept
    (model, history, kept), (wide_model, wide_history, wide) = trained["auto"], trained["float32"]
    assert (set(kept), set(wide)) == ({"bfloat16"}, {"float32"})
    assert sum(kept.values()) < 0.7 * sum(wide.values())
    assert (model, history) == (wide_model, wide_history)


def test_without_repeatability_features_and_checkpoints_are_others_and_the_record_says_so(make_job):
    whole, any_order = (set_up(make_job({"deterministic": given})) for given in (True, False))
    assert (whole.facts()["deterministic"], any_order.facts()["deterministic"]) == ("yes", "no")
    assert whole.checkpoints.folder != any_order.checkpoints.folder
    assert "order of sums any" in any_order.hardware.arithmetic()
    assert "order of sums" not in whole.hardware.arithmetic()
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework import config

        assert not config.is_op_determinism_enabled(), "the last one was without"
        set_up(make_job())
        assert config.is_op_determinism_enabled()


@pytest.mark.slow
def test_an_interrupted_training_in_mixed_precision_ends_as_a_whole_one(make_job, tmp_path):
    phases = [TOP | {"epochs": 2}]
    contents = []
    for name in ("whole", "interrupted"):
        job = make_job({"phases": phases, "precision": "mixed"}, state_folder=tmp_path / name)
        if name == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                fit(job, StoppingAfter(1))
        trained = fit(job, Listener())
        files.save(trained.model, trained.info, tmp_path / "model.keras")
        contents.append((comparable(trained.history), (tmp_path / "model.keras").read_bytes()))
    assert contents[0] == contents[1]


class StoppingAfter(Listener):
    """Ends the training after so many epochs, as Ctrl-C would."""

    def __init__(self, epochs):
        super().__init__()
        self._epochs = epochs

    def on_epoch(self, row):
        if row["epoch"] == self._epochs:
            raise KeyboardInterrupt


def test_what_decides_about_the_last_digits_is_named(tmp_path):
    prepared = hardware.prepare(settings().train, tmp_path)
    name = keras.backend.backend()
    assert f"{name} {version(name)}" in prepared.arithmetic()
    assert prepared.description in prepared.arithmetic()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a matter of JAX")
def test_jax_compiles_augmented_networks_too(make_job):
    setup = set_up(make_job(AUGMENTED))
    network, data = setup.learner_parts(1, lambda _done, _total: None)
    learner = Learner(network, data, setup.job.settings.train, setup.plans[1].phase, setup.hardware)
    assert learner.network.jit_compile and learner.network.supports_jit


@pytest.mark.parametrize(
    ("deterministic", "flags"), [(True, "--xla_gpu_deterministic_ops=true"), (False, "None")]
)
def test_jax_takes_memory_as_needed_and_repeats_if_it_shall(deterministic, flags):
    code = (
        f"from vggflow.models import start_keras; start_keras.start('jax', deterministic={deterministic})\n"
    )
    code += "import os, jax; jax.devices()\n"
    code += "print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'], os.environ.get('XLA_FLAGS'))"
    given = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "XLA_FLAGS")}
    ran = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
    assert ran.stdout.split() == ["false", flags], ran.stderr[-2000:]


def test_preprocessing_and_output_stay_in_full_precision():
    model = builder.build(settings().model, ("a", "b"), None)
    with precision.computing_in(model, "mixed_bfloat16"):
        assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert {model.get_layer(name).compute_dtype for name in precision.ALWAYS_FULL} == {"float32"}
    assert model.get_layer("block1_conv1").compute_dtype == "float32"


def test_float16_gets_a_loss_scale_and_nothing_else_does():
    adam = keras.optimizers.Adam()
    assert isinstance(precision.optimizer(adam, "mixed_float16"), keras.optimizers.LossScaleOptimizer)
    assert precision.optimizer(adam, "mixed_bfloat16") is adam


def test_an_epoch_in_float16_learns_and_its_loss_scale_is_in_the_checkpoint(make_job):
    setup = set_up(make_job({"phases": [TOP]}))
    older = replace(setup.hardware, policy="mixed_float16")
    with precision.computing_in(setup.model, older.policy):
        network, data = setup.learner_parts(0, lambda _done, _total: None)
        learner = Learner(network, data, setup.job.settings.train, setup.plans[0].phase, older)
        before = [np.asarray(variable) for variable in network.trainable_variables]
        row = learner.epoch(1, 0, lambda _done, _total, _row: None)
        other = Learner(network, data, setup.job.settings.train, setup.plans[0].phase, older)
    assert np.isfinite(row["loss"]) and np.isfinite(row["val_loss"])
    after = [np.asarray(variable) for variable in network.trainable_variables]
    assert any(not np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    learner.optimizer.dynamic_scale.assign(1024.0)
    kept = checkpoints.optimizer_state(learner.optimizer)
    checkpoints.restore_optimizer(other.optimizer, kept)
    assert float(other.optimizer.dynamic_scale) == 1024.0


@pytest.mark.parametrize("kind", ["horizontal_flip", "shear", "zoom", "rotation", "brightness"])
def test_each_augmentation_changes_pixels_in_training_only_and_repeatably(kind):
    chosen = AugmentationSettings.model_validate({kind: True if kind == "horizontal_flip" else 0.3})
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
    (layer,), (same,) = augmentation.layers(chosen, 5), augmentation.layers(chosen, 5)
    changed = np.asarray(layer(images, training=True))
    assert not np.allclose(changed, images)
    assert changed.min() >= 0 and changed.max() <= 255
    np.testing.assert_array_equal(changed, np.asarray(same(images, training=True)))
    assert not np.allclose(changed, np.asarray(layer(images, training=True)))
    np.testing.assert_allclose(np.asarray(layer(images, training=False)), images)


def test_no_augmentation_is_no_layer():
    assert augmentation.layers(AugmentationSettings(), 0) == []


@pytest.mark.slow
def test_augmented_training_repeats_to_the_byte(make_job, tmp_path):
    phases = [TOP | {"epochs": 1}]
    results = []
    for attempt in ("a", "b"):
        result = fit(make_job(AUGMENTED | {"phases": phases}, state_folder=tmp_path / attempt), Listener())
        files.save(result.model, result.info, tmp_path / "model.keras")
        results.append((comparable(result.history), (tmp_path / "model.keras").read_bytes()))
    assert results[0] == results[1]


@pytest.mark.slow
def test_an_interrupted_augmented_training_draws_on_where_it_was(make_job, tmp_path):
    phases = [TOP | {"epochs": 3}]
    plain = fit(make_job({"features": {"cache": "off"}, "phases": phases}), Listener())
    whole = fit(make_job(AUGMENTED | {"phases": phases}, state_folder=tmp_path / "whole"), Listener())

    job = make_job(AUGMENTED | {"phases": phases})
    with pytest.raises(KeyboardInterrupt):
        fit(job, StoppingAfter(2))
    assert comparable(fit(job, Listener()).history) == comparable(whole.history) != comparable(plain.history)


def test_random_pixels_before_a_cached_cut_are_refused():
    with pytest.raises(SettingsError, match=r"augmentation changes the pixels of phase head.*cache: off"):
        settings({"augmentation": {"zoom": 0.1}})


def test_a_phase_may_stay_without_augmentation_and_keep_its_features(make_job):
    phases = [HEAD | {"augmentation": False}, TOP | {"freeze_through": "none"}]
    facts = set_up(make_job({"augmentation": {"horizontal_flip": True}, "phases": phases})).facts()
    assert (facts["features.head"], facts["features.top"]) == ("block5_pool", "none")


@pytest.mark.parametrize(
    ("error", "batch_size", "advice"),
    [
        (MemoryError("cannot allocate"), 8000, "try 4000"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), 64, "try 32"),
        (RuntimeError("OOM when allocating tensor with shape[1]"), 3, "try 1"),
        (MemoryError(), 1, "use smaller images or a smaller width"),
    ],
)
def test_lack_of_memory_is_one_line_with_a_batch_size_to_try(error, batch_size, advice):
    with (
        pytest.raises(
            SettingsError, match=rf"GPU ran out of memory with train.batch_size {batch_size}: {advice}$"
        ),
        hardware.explaining_lack_of_memory("train.batch_size", batch_size, "GPU"),
    ):
        raise error


def test_other_errors_are_left_alone():
    with pytest.raises(KeyError), hardware.explaining_lack_of_memory("train.batch_size", 8, "GPU"):
        raise KeyError("x")


@tensorflow_only
def test_a_batch_that_no_memory_holds_is_said_with_a_smaller_one(make_job):
    job = make_job({"features": {"batch_size": 2**40}})
    with pytest.raises(SettingsError, match=rf"train.features.batch_size {2**40}: try {2**39}"):
        fit(job, Listener())
