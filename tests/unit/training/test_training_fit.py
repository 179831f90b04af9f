"""Training from images to a model."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, comparable, draw, settings

from vggflow.errors import DataError, SettingsError
from vggflow.features import limit
from vggflow.models import builder, files, heads
from vggflow.models.probabilities import class_probabilities
from vggflow.settings import parse
from vggflow.training import learner as learner_module
from vggflow.training.fitting import discard_checkpoint, fit
from vggflow.training.learner import Learner, log_loss
from vggflow.training.preparation import set_up


def model_bytes(trained, folder):
    path = folder / "model.keras"
    files.save(trained.model, trained.info, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """One training of two phases, and what its observer heard."""
    from vggflow.gate.scan import scan
    from vggflow.training.job import TrainingJob

    listener = Listener()
    state = tmp_path_factory.mktemp("trained")
    job = TrainingJob(settings(), scan(pictures), pictures, None, state)
    return fit(job, listener), listener, job


def test_all_phases_are_in_one_history_with_epochs_counted_on(trained):
    result, listener, _ = trained
    assert [(row["phase"], row["epoch"]) for row in result.history] == [
        ("head", 1),
        ("head", 2),
        ("top", 3),
        ("top", 4),
    ]
    assert listener.epochs == result.history
    keys = ["phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    assert list(result.history[0])[:8] == keys


def test_every_step_is_reported_once_with_a_running_number(trained):
    _, listener, _ = trained
    assert [row["step"] for row in listener.steps] == list(range(1, 17))
    assert [row["epoch"] for row in listener.steps] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_one_pass_over_each_image_serves_both_phases(trained):
    _, listener, _ = trained
    assert [done for done, _ in listener.features] == [8, 16, 24, 32, 40]
    assert listener.ends["feature_images"] == 40


def test_with_mirror_images_an_epoch_has_twice_as_many_and_only_they_are_computed_anew(make_job):
    fit(make_job({"phases": [HEAD]}), Listener())
    mirrored, again = Listener(), Listener()
    fit(make_job({"phases": [HEAD], "mirrored": True}), mirrored)
    assert mirrored.ends["feature_images"] == 28, "those of the images were there"
    assert mirrored.steps[-1]["step"] == 2 * 7
    fit(make_job({"phases": [HEAD | {"learning_rate": 0.01}], "mirrored": True}), again)
    assert again.ends["feature_images"] == 0


def test_the_model_knows_its_classes_and_its_temperature(trained):
    result, listener, _ = trained
    assert result.info.class_names == ("across", "down")
    assert (
        result.info.temperature
        == heads.temperature(result.model)
        == pytest.approx(listener.ends["temperature"])
    )


def test_the_measures_on_valid_are_those_of_keras(trained, make_job):
    result, _, job = trained
    setup = set_up(job)
    pixels = np.stack([np.asarray(row) for row in decoded(setup)])
    outputs = result.model.predict(pixels, verbose=0)
    heads.set_temperature(result.model, 1.0)
    plain = result.model.predict(pixels, verbose=0)
    heads.set_temperature(result.model, result.info.temperature)
    labels = setup.valid.labels
    best = min(result.history[2:], key=lambda row: row["val_loss"])
    loss = keras.losses.BinaryCrossentropy()(labels[:, None].astype("float32"), plain)
    assert best["val_loss"] == pytest.approx(float(loss), abs=1e-4)
    assert best["val_accuracy"] == (class_probabilities(outputs).argmax(axis=1) == labels).mean()


def decoded(setup):
    from vggflow.features.batches import Decoding, Shape

    return Decoding(setup.valid, Shape(32, "stretch")).gather(np.arange(len(setup.valid)))


def test_the_same_inputs_give_the_same_bytes(trained, make_job, tmp_path):
    first, _, _ = trained
    second = fit(make_job(), Listener())
    assert comparable(second.history) == comparable(first.history)
    assert model_bytes(second, tmp_path) == model_bytes(first, tmp_path)


def test_another_seed_gives_another_model(trained, make_job, tmp_path):
    other = fit(make_job({"seed": 4, "phases": [HEAD]}), Listener())
    assert comparable(other.history)[0] != comparable(trained[0].history)[0]


def test_without_the_cache_the_losses_are_the_same(trained, make_job):
    cached, _, _ = trained
    uncached = fit(make_job({"features": {"cache": "off", "batch_size": 8}}), Listener())
    for one, other in zip(cached.history, uncached.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-4)
    assert uncached.facts["features.head"] == "none"


def test_it_learns_and_the_second_phase_beats_the_first(make_job):
    phases = [HEAD | {"epochs": 2}, TOP | {"epochs": 6}]
    history = fit(make_job({"phases": phases}), Listener()).history
    assert min(row["loss"] for row in history[2:]) < 0.8 * min(row["loss"] for row in history[:2])


def test_frozen_layers_keep_their_start_weights_and_others_do_not(trained):
    result, _, job = trained
    start = builder.build(job.settings.model, ("across", "down"), None, job.settings.train.seed)
    for layer in result.model.layers:
        for after, before in zip(layer.weights, start.get_layer(layer.name).weights, strict=True):
            frozen = layer.name < "block4" and layer.name.startswith("block")
            same = np.array_equal(keras.ops.convert_to_numpy(after), keras.ops.convert_to_numpy(before))
            assert same == frozen, layer.name


def test_the_best_epoch_of_a_phase_is_what_it_leaves(make_job):
    # A rate this high spoils what the first epochs learnt.
    phases = [HEAD | {"epochs": 1}, TOP | {"learning_rate": 0.02, "epochs": 6}]
    job = make_job({"phases": phases})
    result = fit(job, Listener())
    losses = [row["val_loss"] for row in result.history[1:]]
    assert losses.index(min(losses)) < len(losses) - 1, (
        "choose a rate at which the last epoch is not the best"
    )
    setup = set_up(job)
    heads.set_temperature(result.model, 1.0)
    outputs = class_probabilities(result.model.predict(decoded(setup), verbose=0))
    assert log_loss(outputs, setup.valid.labels) == pytest.approx(min(losses), abs=1e-4)


def test_a_phase_ends_early_when_its_metric_stands_still(make_job):
    stopping = {"monitor": "val_loss", "patience": 2, "min_delta": 100.0}
    history = fit(
        make_job({"phases": [HEAD | {"epochs": 9, "early_stopping": stopping}, TOP]}), Listener()
    ).history
    assert [row["phase"] for row in history] == ["head"] * 3 + ["top"] * 2


@pytest.mark.slow
def test_balanced_weights_let_a_rare_class_count_as_much_as_the_others(make_job, tmp_path):
    draw(tmp_path, "train", {"across": 18, "down": 6}, seed=1)
    draw(tmp_path, "valid", {"across": 2, "down": 2}, seed=2)
    plain = set_up(make_job(data=tmp_path))
    balanced = set_up(make_job({"class_weights": "balanced"}, data=tmp_path))
    np.testing.assert_allclose(plain.class_weights(), [1, 1])
    np.testing.assert_allclose(balanced.class_weights(), [24 / 36, 24 / 12])
    first = fit(make_job({"phases": [HEAD]}, data=tmp_path), Listener()).history
    second = fit(make_job({"phases": [HEAD], "class_weights": "balanced"}, data=tmp_path), Listener()).history
    assert first[0]["loss"] != pytest.approx(second[0]["loss"], abs=1e-3)


def test_three_classes_are_trained_with_a_softmax(make_job, tmp_path):
    draw(tmp_path, "train", {"across": 8, "down": 8, "plain": 8}, seed=1)
    draw(tmp_path, "valid", {"across": 3, "down": 3, "plain": 3}, seed=2)
    result = fit(make_job({"phases": [TOP | {"epochs": 4}]}, data=tmp_path), Listener())
    assert result.model.outputs[0].shape[-1] == 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_the_fc_head_learns_from_features_of_fc2(make_job):
    phases = [HEAD | {"freeze_through": "fc2"}]
    setup = set_up(make_job({"phases": phases}, {"head": "fc", "dropout": 0.3}))
    assert setup.facts()["features.head"] == "fc2"
    assert setup.plans[0].learning == ("dropout", "predictions")


@pytest.mark.slow
def test_a_phase_that_changes_layers_before_a_later_cut_makes_new_features(make_job):
    phases = [TOP | {"epochs": 1}, HEAD | {"epochs": 1}]
    listener = Listener()
    job = make_job({"phases": phases})
    cached = fit(job, listener)
    assert listener.ends["feature_images"] == 80
    assert len(limit.contents(job.state_folder)) == 2, "features were computed that nobody reads"
    uncached = fit(make_job({"phases": phases, "features": {"cache": "off"}}), Listener())
    assert cached.history[1]["loss"] == pytest.approx(uncached.history[1]["loss"], abs=1e-4)


def test_a_file_that_changed_since_validate_stops_the_training(make_job, tmp_path):
    draw(tmp_path, "train", {"across": 4, "down": 4}, seed=1)
    draw(tmp_path, "valid", {"across": 2, "down": 2}, seed=2)
    for cache in ("auto", "off"):
        job = make_job(
            {"phases": [HEAD], "features": {"cache": cache}}, data=tmp_path, state_folder=tmp_path / cache
        )
        path = tmp_path / "train" / "down" / "1.png"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")
        with pytest.raises(DataError, match=r"1\.png changed since validate"):
            fit(job, Listener())
        path.write_bytes(content)


def test_a_rate_that_makes_the_loss_infinite_is_said_in_one_line(make_job):
    phases = [TOP | {"optimizer": "sgd", "learning_rate": 1e38}]
    with pytest.raises(
        SettingsError, match=r"phase top: the loss of epoch .* use a learning_rate below"
    ) as error:
        fit(make_job({"phases": phases}), Listener())
    assert "\n" not in str(error.value)


def test_weights_that_the_last_step_spoils_are_said_in_one_line(make_job, tmp_path):
    draw(tmp_path, "train", {"across": 8, "down": 8, "plain": 8}, seed=1)
    draw(tmp_path, "valid", {"across": 3, "down": 3, "plain": 3}, seed=2)
    phases = [TOP | {"optimizer": "sgd", "learning_rate": 1e38, "epochs": 1}]
    for _ in range(2):
        with pytest.raises(
            SettingsError, match=r"phase top: the val_loss of epoch 1 is nan; use a learning_rate"
        ):
            fit(make_job({"phases": phases, "batch_size": 24}, data=tmp_path), Listener())


def test_settings_for_another_backend_are_refused(make_job):
    job = make_job()
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    content = job.settings.model_dump(mode="json", by_alias=True)
    content["train"]["backend"] = other
    with pytest.raises(SettingsError, match=f"KERAS_BACKEND={other}"):
        fit(replace(job, settings=parse(content)), Listener())


def test_features_that_fit_no_cache_are_computed_in_every_epoch(make_job, trained):
    result = fit(make_job({"phases": [HEAD | {"epochs": 1}]}, feature_limit_bytes=1), Listener())
    assert result.facts["features.head"] == "none"
    assert result.history[0]["loss"] == pytest.approx(trained[0].history[0]["loss"], abs=1e-4)


def test_a_small_cache_holds_the_small_features_and_the_pixels_decide_the_rest(make_job):
    facts = set_up(make_job(feature_limit_bytes=40 * 32 * 4 + 10)).facts()
    assert (facts["features.head"], facts["features.top"]) == ("block5_pool", "none")


def test_discarding_removes_the_checkpoint_and_nothing_else(make_job):
    job = make_job({"phases": [HEAD]})
    result = fit(job, Listener())
    (left,) = (job.state_folder / "checkpoints").iterdir()
    discard_checkpoint(job, result)
    assert not left.exists()
    assert list((job.state_folder / "features").iterdir())


def test_learners_steps_cover_a_last_smaller_batch(make_job):
    setup = set_up(make_job({"batch_size": 9}))
    network, data = setup.learner_parts(0, lambda _done, _total: None)
    assert Learner(network, data, setup.job.settings.train, setup.plans[0].phase, setup.hardware).steps == 4


class _OfADevice:
    """A number that a device has yet to compute."""

    def __init__(self, asked):
        self._asked = asked

    def __float__(self):
        self._asked.append(self)
        return 0.5


def test_no_step_waits_for_the_numbers_of_one_before_and_all_are_told_in_their_order(make_job):
    setup = set_up(make_job({"batch_size": 2, "phases": [HEAD]}))
    network, data = setup.learner_parts(0, lambda _done, _total: None)
    learner = Learner(network, data, setup.job.settings.train, setup.plans[0].phase, setup.hardware)
    asked, told, waited = [], [], []
    steps = learner_module._Steps(learner, 1, 0, lambda done, total, row: told.append((done, row["step"])), 3)
    steps.on_train_begin()
    for step in range(learner.steps):
        steps.on_train_batch_end(step, {"loss": _OfADevice(asked), "accuracy": 1.0})
        waited.append(len(asked))
    assert waited == [max(0, step - 2) for step in range(learner.steps)]
    steps.on_epoch_end(0)
    steps.on_train_end()
    assert told == [(step + 1, step + 1) for step in range(learner.steps)]


def test_an_epoch_is_the_same_however_many_steps_a_device_may_be_ahead(make_job, monkeypatch):
    ends = []
    for ahead in (0, 100):
        monkeypatch.setattr(learner_module, "STEPS_AHEAD", dict.fromkeys(("CPU", "GPU"), ahead))
        job, listener = make_job({"batch_size": 4, "phases": [HEAD | {"epochs": 2}]}), Listener()
        result = fit(job, listener)
        discard_checkpoint(job, result)
        ends.append(([row["loss"] for row in result.history], listener.steps))
    assert ends[0] == ends[1]
