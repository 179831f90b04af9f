"""A training that was interrupted ends as one that was not; killed as a program: integration/test_training_kills.py."""

import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_training import HEAD, TOP, Listener, comparable

from vggflow.errors import VggflowError
from vggflow.models import files
from vggflow.training import checkpoints
from vggflow.training.checkpoints import Checkpoints, Progress
from vggflow.training.fitting import fit
from vggflow.training.job import STEP_VALUES

PHASES = [HEAD, TOP | {"schedule": "cosine", "epochs": 3, "early_stopping": {"patience": 9}}]
MODEL = {"dropout": 0.4}


class Interrupted(BaseException):
    """What SIGTERM becomes in a stage."""


class Stopping(Listener):
    """Ends the training at the n-th call of a method, as a kill would."""

    def __init__(self, method: str, call: int) -> None:
        super().__init__()
        self._calls = 0

        def stop(*arguments):
            self._calls += 1
            if self._calls == call:
                raise Interrupted
            getattr(Listener, method)(self, *arguments)

        setattr(self, method, stop)


def digest(trained, folder: Path) -> str:
    files.save(trained.model, trained.info, folder / "model.keras")
    return hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The history, the model and the steps of a training that nobody interrupted."""
    from tiny_training import settings

    from vggflow.gate.scan import scan
    from vggflow.training.job import TrainingJob

    folder = tmp_path_factory.mktemp("reference")
    job = TrainingJob(settings({"phases": PHASES}, MODEL), scan(pictures), pictures, None, folder)
    listener = Listener()
    trained = fit(job, listener)
    return comparable(trained.history), digest(trained, folder), job, listener.steps


@pytest.mark.parametrize(
    ("method", "call", "epochs_kept"),
    [
        pytest.param("on_features", 3, 0, id="feature pass", marks=pytest.mark.slow),
        pytest.param("on_step", 3, 0, id="first epoch", marks=pytest.mark.slow),
        pytest.param("on_epoch", 1, 1, id="between epochs", marks=pytest.mark.slow),
        pytest.param("on_step", 11, 2, id="second phase"),
        pytest.param("on_epoch", 5, 5, id="last epoch", marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_started_again_it_ends_the_same(
    reference, make_job, tmp_path, method, call, epochs_kept
):
    job = make_job({"phases": PHASES}, MODEL)
    with pytest.raises(Interrupted):
        fit(job, Stopping(method, call))
    again = Listener()
    trained = fit(job, again)
    assert again.resumed == ("run-1", epochs_kept)
    assert comparable(trained.history) == reference[0]
    assert digest(trained, tmp_path) == reference[1]
    assert values([*again.steps_before, *again.steps]) == values(reference[3])


def values(steps):
    """What a tracking server would hold of each step."""
    return [[step[name] for name in ("step", *STEP_VALUES)] for step in steps]


def test_a_finished_training_is_not_done_again(reference, tmp_path):
    again = Listener()
    trained = fit(reference[2], again)
    assert (again.epochs, again.resumed) == ([], ("run-1", 5))
    assert digest(trained, tmp_path) == reference[1]


@pytest.mark.parametrize(
    "change", [{"seed": 9}, {"batch_size": 7}, {"phases": [HEAD, TOP | {"learning_rate": 0.002}]}]
)
def test_a_checkpoint_of_other_settings_is_not_resumed(make_job, change):
    with pytest.raises(Interrupted):
        fit(make_job(), Stopping("on_epoch", 1))
    other = Listener()
    with pytest.raises(Interrupted):
        job = make_job(change)
        fit(job, StoppingLike(other))
    assert other.resumed is None


class StoppingLike(Stopping):
    """Stops before the first epoch and tells another listener whether it was resumed."""

    def __init__(self, other: Listener) -> None:
        super().__init__("on_start", 1)
        self._other = other

    def on_resume(self, run_id, rows, steps):
        self._other.resumed = (run_id, len(rows))


@pytest.mark.slow
def test_a_checkpoint_of_other_images_is_not_resumed(make_job, pictures, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    with pytest.raises(Interrupted):
        fit(make_job(data=copy), Stopping("on_epoch", 1))
    shutil.move(copy / "train/across/0.png", copy / "train/down/99.png")
    other = Listener()
    with pytest.raises(Interrupted):
        fit(make_job(data=copy), StoppingLike(other))
    assert other.resumed is None


def test_a_damaged_checkpoint_costs_epochs_and_no_result(reference, make_job, tmp_path):
    job = make_job({"phases": PHASES}, MODEL)
    with pytest.raises(Interrupted):
        fit(job, Stopping("on_epoch", 3))
    (path,) = (job.state_folder / "checkpoints").glob("*/checkpoint.npz")
    path.write_bytes(path.read_bytes()[:-100])
    trained = fit(job, Listener())
    assert digest(trained, tmp_path) == reference[1]


@pytest.mark.parametrize("damage", [pytest.param("cut short", marks=pytest.mark.slow), "gone"])
def test_damaged_best_weights_cost_epochs_and_no_result(reference, make_job, tmp_path, damage):
    job = make_job({"phases": PHASES}, MODEL)
    with pytest.raises(Interrupted):
        fit(job, Stopping("on_epoch", 4))
    (path,) = (job.state_folder / "checkpoints").glob("*/best-*.npz")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    trained = fit(job, Listener())
    assert digest(trained, tmp_path) == reference[1]


def test_best_weights_that_vanish_in_mid_training_are_never_replaced_by_others(make_job):
    class Vanishing(Listener):
        def on_epoch(self, row):
            for path in (job.state_folder / "checkpoints").glob("*/best-*.npz"):
                path.unlink()

    job = make_job({"phases": [HEAD]})
    with pytest.raises(VggflowError, match=r"best-\d\.npz is damaged or gone: run the same command again"):
        fit(job, Vanishing())


def test_a_training_waits_for_another_one_of_the_same_inputs(tmp_path, capfd):
    place = Checkpoints(tmp_path / "checkpoints" / "one")
    entered = threading.Event()

    def enter():
        with Checkpoints(place.folder).held():
            entered.set()

    with place.held():
        other = threading.Thread(target=enter, daemon=True)
        other.start()
        assert not entered.wait(0.5)
    assert entered.wait(10)
    assert str(place.folder) in capfd.readouterr().err


@pytest.mark.slow
def test_a_training_goes_on_with_its_features_where_their_room_has_become_less(make_job, reference, tmp_path):
    with pytest.raises(Interrupted):
        fit(make_job({"phases": PHASES}, MODEL), Stopping("on_epoch", 1))
    again = Listener()
    trained = fit(make_job({"phases": PHASES}, MODEL, feature_limit_bytes=1), again)
    assert again.resumed == ("run-1", 1)
    assert trained.facts["features.head"] == "block5_pool"
    assert digest(trained, tmp_path) == reference[1]


def test_a_training_killed_while_its_run_is_opened_keeps_the_name_by_which_to_find_it(make_job):
    class Opening(Listener):
        def on_start(self, facts):
            names.append(facts["training"])
            raise Interrupted

    names = []
    job = make_job()
    for _ in range(2):
        with pytest.raises(Interrupted):
            fit(job, Opening())
    other = make_job({"seed": 8})
    with pytest.raises(Interrupted):
        fit(other, Opening())
    assert names[0] == names[1] != names[2]


def test_the_best_weights_are_on_disk_before_the_checkpoint_that_names_them(tmp_path):
    place = Checkpoints(tmp_path / "one")
    progress = Progress(best=0.5, best_epoch=3)
    place.save(progress, {"a": np.ones(2)})
    assert place.load() is None
    place.save_best(progress, {"a": np.ones(2)})
    place.save(progress, {"a": np.ones(2)})
    loaded, arrays = place.load()
    assert (loaded, arrays["a"].tolist()) == (progress, [1, 1])


def test_best_weights_of_earlier_epochs_are_removed_once_nothing_names_them(tmp_path):
    place = Checkpoints(tmp_path / "one")
    for epoch in (1, 2):
        progress = Progress(best_epoch=epoch)
        place.save_best(progress, {"a": np.ones(2)})
        place.save(progress, {})
    assert [path.name for path in place.folder.glob("best-*")] == ["best-2.npz"]


def test_checkpoints_that_nobody_goes_on_with_are_removed_after_two_weeks(tmp_path):
    for name, days in (("old", 15), ("new", 13)):
        place = Checkpoints(tmp_path / name)
        place.save(Progress(), {})
        then = time.time() - days * 86400
        os.utime(place.folder / "checkpoint.npz", (then, then))
    half_written = tmp_path / "new" / ".checkpoint.npz.abc.npz"
    half_written.write_bytes(b"x")
    os.utime(half_written, (0, 0))
    checkpoints.prune(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.npz"]


def test_every_part_of_the_inputs_changes_the_key():
    parts = {"network": "a", "train": {"seed": 0}}
    assert checkpoints.key(parts) == checkpoints.key(dict(reversed(parts.items())))
    assert checkpoints.key(parts) != checkpoints.key(parts | {"train": {"seed": 1}})


def test_a_run_that_the_tracking_server_lost_is_replaced_for_good(make_job):
    """The second resume must find the new run, also where no epoch was finished in between."""

    class OtherServer(Stopping):
        def on_resume(self, run_id, rows, steps):
            self.run_id = "run-2"

    job = make_job()
    with pytest.raises(Interrupted):
        fit(job, Stopping("on_epoch", 1))
    with pytest.raises(Interrupted):
        fit(job, OtherServer("on_step", 1))
    last = Stopping("on_step", 1)
    with pytest.raises(Interrupted):
        fit(job, last)
    assert last.resumed == ("run-2", 1)
