"""A network with a weight that is NaN or infinite is never taken for a trained one."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, draw

from vggflow.errors import SettingsError, WeightsError
from vggflow.models import builder
from vggflow.models.finite import are_finite
from vggflow.training.checkpoints import Checkpoints
from vggflow.training.fitting import fit
from vggflow.training.learner import Learner
from vggflow.training.preparation import set_up


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX answers NaN, which the loss shows")
def test_weights_that_are_spoilt_while_both_losses_are_finite_end_the_training(make_job):
    """Of 28 images in one step only the loss before the step is seen, and ReLU makes 0 of NaN for the other."""
    phase = TOP | {"freeze_through": "none", "optimizer": "sgd", "learning_rate": 1e38, "epochs": 1}
    job = make_job({"phases": [phase], "batch_size": 32}, {"two_class_output": "sigmoid"})
    for _ in range(2):
        with pytest.raises(
            SettingsError,
            match=r"phase top: after epoch 1 layer \w+ holds numbers that are not finite; use a ",
        ) as error:
            fit(job, Listener())
        assert not error.value.retry and "\n" not in str(error.value)
        for path in (job.state_folder / "checkpoints").glob("*/*.npz"):
            with np.load(path) as kept:
                assert all(
                    np.isfinite(kept[name]).all() for name in kept.files if kept[name].dtype.kind == "f"
                )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX an epoch has numbers of its own")
@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_one_number_of_the_optimizer_that_the_last_step_spoils_ends_the_training(make_job, spoilt):
    setup = set_up(make_job({"phases": [HEAD | {"optimizer": "sgd"}]}))
    network, data = setup.learner_parts(0, lambda _done, _total: None)
    learner = Learner(network, data, setup.job.settings.train, setup.plans[0].phase, setup.hardware)

    def spoil(done, total, _row):
        if done == total:
            momentum = learner.optimizer.variables[-1]
            value = np.array(momentum)
            value[-1] = spoilt
            momentum.assign(value)

    with pytest.raises(SettingsError, match=r"phase head: after epoch 1 the optimizer sgd holds numbers"):
        learner.epoch(1, 0, spoil)


def test_a_checkpoint_that_holds_nan_is_put_aside_and_the_training_starts_afresh(make_job, capfd):
    job = make_job({"phases": [HEAD]})
    first = fit(job, Listener())
    place = Checkpoints(job.state_folder / "checkpoints" / str(first.facts["inputs"]))
    progress, arrays = place.load()
    name = next(name for name in arrays if name.startswith("layer/predictions"))
    place.save(progress, arrays | {name: np.full_like(arrays[name], np.nan)})
    again = Listener()
    second = fit(job, again)
    assert again.resumed is None
    assert len(again.epochs) == 2
    assert "numbers that are not finite" in capfd.readouterr().err
    for one, other in zip(first.model.variables, second.model.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_features_that_are_not_finite_are_no_features(make_job, tmp_path):
    """Start weights may be finite and too large all the same."""
    draw(tmp_path, "train", {"across": 4, "down": 4}, seed=1)
    draw(tmp_path, "valid", {"across": 2, "down": 2}, seed=2)
    job = make_job({"phases": [HEAD]}, {"weights": "huge.weights.h5"}, data=tmp_path)
    weights = tmp_path / "weights"
    weights.mkdir()
    model = builder.build(job.settings.model.model_copy(update={"weights": "none"}), ["across", "down"])
    for layer in model.layers:
        layer.set_weights([np.full(value.shape, 1e30, np.float32) for value in layer.get_weights()])
    model.save_weights(weights / "huge.weights.h5")
    with pytest.raises(WeightsError, match=r"frozen layers give numbers that are not finite"):
        fit(replace(job, weights_folder=weights), Listener())


def test_state_that_is_no_floating_point_number_is_finite(make_job):
    setup = set_up(make_job({"features": {"cache": "off"}, "augmentation": {"zoom": 0.1}}))
    network, _ = setup.learner_parts(0, lambda _done, _total: None)
    assert any("int" in str(variable.dtype) for variable in network.variables)
    assert are_finite(network.variables)
    assert are_finite([])
