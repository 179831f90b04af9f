"""Computing features once, and only what is missing."""

import resource
import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, draw, settings

from vggflow.errors import VggflowError
from vggflow.features import compute, limit, store
from vggflow.features.compute import PIXELS
from vggflow.training import frozen_features
from vggflow.training.fitting import fit
from vggflow.training.preparation import set_up


def computed(job) -> int:
    """The images that a training sends through the frozen layers."""
    listener = Listener()
    setup = set_up(job)
    for number in range(len(setup.plans)):
        setup.inputs.of_phase(number, listener.on_features)
    return setup.inputs.work.images


def test_a_training_finds_what_was_computed_ahead_of_it(make_job):
    job = make_job({"phases": [HEAD | {"epochs": 1}]})
    assert computed(job) == 40
    listener = Listener()
    fit(job, listener)
    assert listener.features == []


def test_new_images_cost_only_themselves(make_job, pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    assert computed(make_job(data=data)) == 40
    draw(data, "train", {"across": 2, "down": 1}, seed=9)
    assert computed(make_job(data=data)) == 3


def test_a_second_training_with_another_rate_computes_none(make_job):
    assert computed(make_job()) == 40
    assert (
        computed(make_job({"phases": [HEAD | {"learning_rate": 0.5}, TOP], "seed": 3, "batch_size": 5})) == 0
    )


@pytest.mark.parametrize(
    ("train", "model"),
    [
        ({"seed": 4}, {}),
        ({}, {"resize": "crop"}),
        ({}, {"preprocessing": "rescale"}),
        ({"features": {"dtype": "float16"}}, {}),
        ({"features": {"batch_size": 4}}, {}),
    ],
    ids=["other weights", "other resize", "other preprocessing", "other dtype", "other batches"],
)
def test_whatever_changes_the_features_makes_them_new(make_job, train, model):
    assert computed(make_job()) == 40
    assert computed(make_job(train, model)) == 40


def test_another_head_needs_no_new_features_where_the_cut_is_the_same(make_job):
    assert computed(make_job({"phases": [TOP]})) == 40
    assert computed(make_job({"phases": [TOP]}, {"dropout": 0.5})) == 0


def test_an_image_that_is_in_both_splits_is_computed_once(make_job, pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    shutil.copy(data / "train/across/0.png", data / "valid/across/same.png")
    assert computed(make_job(data=data)) == 40


def test_a_damaged_shard_is_computed_again_with_the_same_result(make_job):
    job = make_job()
    first = rows_of(job)
    shard = next(
        shard for entry in (job.state_folder / "features").iterdir() for shard in store.shards(entry)
    )
    shard.path.write_bytes(shard.path.read_bytes()[:-4] + b"????")
    assert computed(job) > 0
    np.testing.assert_array_equal(rows_of(job), first)


def rows_of(job) -> np.ndarray:
    setup = set_up(job)
    _, data = setup.learner_parts(0, lambda _done, _total: None)
    return data.train.gather(np.arange(len(data.train)))


def test_kept_pixels_are_not_decoded_again_and_give_the_same_features(make_job, monkeypatch):
    job = make_job()
    setup = set_up(job)
    setup.inputs.kept = [PIXELS]
    setup.inputs.of_phase(0, lambda _done, _total: None)
    with monkeypatch.context() as patched:
        patched.setattr(compute, "read_ahead", lambda *_: pytest.fail("an image is decoded"))
        from_pixels = rows_of(job)
    for entry in (job.state_folder / "features").iterdir():
        shutil.rmtree(entry)
    np.testing.assert_array_equal(from_pixels, rows_of(job))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_number_that_is_none_is_found_in_each_kind_of_features(dtype):
    largest = ml_dtypes.finfo(dtype).max
    rows = np.full((2, 3), largest, dtype)
    rows[0, 0] = -largest
    assert compute._are_finite(rows)
    assert compute._are_finite(rows[:0])
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = rows.copy()
        spoilt[1, 2] = bad
        assert not compute._are_finite(spoilt)


@pytest.mark.slow
def test_half_precision_features_train_nearly_alike(make_job):
    full = fit(make_job({"phases": [HEAD]}), Listener()).history
    half = fit(
        make_job({"phases": [HEAD], "features": {"dtype": "float16", "batch_size": 8}}), Listener()
    ).history
    assert half[-1]["loss"] == pytest.approx(full[-1]["loss"], abs=2e-2)


def test_features_are_those_of_the_frozen_layers(make_job):
    job = make_job()
    setup = set_up(job)
    _, data = setup.learner_parts(0, lambda _done, _total: None)
    from vggflow.features.batches import Decoding, Shape
    from vggflow.models import cut

    pixels = Decoding(setup.train, Shape(32, "stretch")).gather(np.arange(28))
    expected = cut.prefix(setup.model, ["block5_pool"]).predict_on_batch(pixels)
    np.testing.assert_allclose(data.train.gather(np.arange(28)), np.asarray(expected), atol=1e-4)


def test_old_features_make_room_for_new_ones(make_job):
    first = make_job({"phases": [TOP]})
    computed(first)
    size = limit.held_bytes(first.state_folder)
    second = make_job({"phases": [TOP], "seed": 77}, feature_limit_bytes=int(1.3 * size))
    computed(second)
    assert limit.held_bytes(first.state_folder) <= 1.3 * size
    assert computed(second) == 0


def test_old_features_make_room_where_the_disk_is_nearly_full(make_job, monkeypatch):
    first = make_job({"phases": [TOP]})
    computed(first)
    size = limit.held_bytes(first.state_folder)
    free = frozen_features.DISK_TO_LEAVE_BYTES + size // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    computed(make_job({"phases": [TOP], "seed": 77}))
    assert limit.held_bytes(first.state_folder) <= 1.1 * size


def test_a_cache_that_is_cleared_during_the_pass_is_said_in_one_line(make_job):
    class Clearing(Listener):
        def on_features(self, done, total):
            limit.clear(job.state_folder)

    job = make_job({"phases": [TOP]})
    with pytest.raises(VggflowError, match="was removed while features were computed") as error:
        fit(job, Clearing())
    assert "\n" not in str(error.value)
    fit(job, Listener())


def test_a_full_disk_is_said_in_one_line_with_the_file(make_job):
    job = make_job({"phases": [TOP]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(VggflowError, match=r"no room on the disk for .*/features/.*\.npy: make some"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        try:
            computed(job)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert computed(job) == 40


def test_nothing_is_left_over_from_settings_that_are_not_about_features():
    with_defaults = settings()
    assert with_defaults.train.features.cache == "auto"
    assert settings({"features": {"cache": False}}).train.features.cache == "off"
