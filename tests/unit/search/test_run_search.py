"""Searches on tiny pictures: the trials are trainings, and a killed search goes on."""

from collections import Counter
from dataclasses import replace

import pytest

from vggflow.search.run_search import AS_FOUND, AS_IT_WAS, FIRST_PHASE, FIRST_PHASE_AS, Budget, search
from vggflow.search.space import with_values
from vggflow.training import checkpoints
from vggflow.training.fitting import fit
from vggflow.training.job import SilentObserver

HEAD = {"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01, "epochs": 3}
TOP = {"name": "top", "freeze_through": "block4_pool", "learning_rate": 0.001, "epochs": 2}
SPACE = {
    "train.phases.head.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"},
    "train.phases.head.schedule": ["constant", "cosine"],
    "train.phases.head.optimizer": ["adam", "sgd", "rmsprop"],
    "model.dropout": [0.0, 0.5],
    "model.head": ["pooling", "flatten"],
    "train.batch_size": [7, 8],
    "train.class_weights": ["none", "balanced"],
}
LATER = {
    "train.phases.top.freeze_through": ["block4_pool", "block3_pool", "none"],
    "train.phases.top.epochs": [1, 2],
}
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")


class Killed(BaseException):
    """As SIGTERM comes: from outside, at any point."""


class Listener:
    def __init__(self, die_after: int | None = None) -> None:
        self.keys: list[str] = []
        self.features: list[tuple[int, int]] = []
        self.trials: list = []
        self.die_after = die_after

    def on_start(self, key):
        self.keys.append(key)

    def on_features(self, done, total):
        self.features.append((done, total))

    def on_trial(self, study, trial, settings):
        self.trials.append((study.name, trial, settings))
        if self.die_after == len(self.trials):
            raise Killed


def facts(found) -> list[tuple]:
    return [
        (study.name, trial.number, trial.state, dict(trial.values), trial.value, len(trial.rows))
        for study in found.studies
        for trial in study.trials
    ]


def without_seconds(found) -> list[list[dict]]:
    return [
        [{name: row[name] for name in FIGURES} for row in trial.rows]
        for study in found.studies
        for trial in study.trials
    ]


def test_a_trial_on_cached_features_is_the_training_of_its_settings(make_job):
    job = make_job({"phases": [HEAD]}, search={"space": SPACE | {"model.dropout": [0.5]}})
    found = search(job, Budget(14, 0), Listener())
    complete = [trial for trial in found.first.trials if trial.state == "complete"]
    assert len(complete) >= 6
    tried = Counter(str(value) for trial in complete for value in trial.values.values())
    words = ("cosine", "sgd", "0.5", "pooling", "flatten", "7", "balanced")
    assert [word for word in words if not tried[word]] == []
    for trial in complete:
        trained = fit(replace(job, settings=with_values(job.settings, trial.values)), SilentObserver())
        for row, same in zip(trained.history, trial.rows, strict=True):
            assert {name: row[name] for name in FIGURES} == pytest.approx(
                {name: same[name] for name in FIGURES}, abs=1e-6
            )
        best = min(trained.history, key=lambda row: row["val_loss"])
        assert trial.value == pytest.approx(best["val_loss"], abs=1e-6)
        assert trial.accuracy == best["val_accuracy"]


def test_features_of_all_heads_come_from_one_pass_and_are_found_by_the_next_search(make_job):
    listener = Listener()
    search(make_job({"phases": [HEAD]}, search={"space": SPACE}), Budget(3, 0), listener)
    assert [done for done, total in listener.features if done == total] == [41]
    again = Listener()
    search(make_job({"phases": [HEAD]}, search={"space": SPACE, "seed": 1}), Budget(3, 0), again)
    assert again.features == []
    assert again.keys != listener.keys


def refuse_a_difference(make_job, other, section, budget, kills):
    whole = search(make_job({"phases": [HEAD, TOP]}, search=section), budget, Listener())
    count = len(facts(whole))
    for die_after in kills:
        listener = Listener(die_after)
        with pytest.raises(Killed):
            search(make_job({"phases": [HEAD, TOP]}, search=section, state_folder=other), budget, listener)
        assert len(listener.trials) == die_after
    listener = Listener()
    parts = search(make_job({"phases": [HEAD, TOP]}, search=section, state_folder=other), budget, listener)
    told = [(name, trial.number) for name, trial, _ in listener.trials]
    assert len(told) == len(set(told)) == count
    assert facts(parts) == facts(whole)
    assert without_seconds(parts) == without_seconds(whole)
    assert parts.changes == whole.changes


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(make_job, tmp_path):
    few = {name: SPACE[name] for name in ("train.phases.head.learning_rate", "train.batch_size")}
    section = {"space": few | {"train.phases.top.epochs": [1, 2]}}
    refuse_a_difference(make_job, tmp_path / "other", section, Budget(4, 2), (1, 5))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(1, 2, 5, 8), (3, 4, 6, 7, 9)])
def test_a_search_of_everything_that_was_killed_goes_on(make_job, tmp_path, kills):
    refuse_a_difference(make_job, tmp_path / "other", {"space": SPACE | LATER}, Budget(6, 4), kills)


def test_a_whole_training_that_was_killed_goes_on_within_the_trial(make_job, monkeypatch):
    section = {"space": LATER}
    saved = checkpoints.Checkpoints.save
    kept: list[dict] = []

    def save(self, progress, arrays):
        saved(self, progress, arrays)
        if len(progress.rows) == 4 and not kept:
            kept.extend(progress.rows)
            raise Killed

    job = make_job({"phases": [HEAD, TOP]}, search=section)
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    with pytest.raises(Killed):
        search(job, Budget(1, 1), Listener())
    left = list((job.state_folder / "checkpoints").glob("*/checkpoint.npz"))
    assert len(left) == 1
    found = search(job, Budget(1, 1), Listener())
    rows = list(found.whole.trials[0].rows)
    # Also the seconds that they took: epochs that were trained again would have others.
    assert rows[:4] == kept
    assert len(rows) == 5
    # A trial leaves no checkpoint behind.
    assert list((job.state_folder / "checkpoints").glob("*")) == []


def test_whole_trainings_begin_with_the_settings_as_they_are_then_the_cheapest_cut(make_job):
    slow = HEAD | {"learning_rate": 0.00001}
    section = {"space": {"train.phases.head.learning_rate": [0.00001, 0.05], **LATER}}
    found = search(make_job({"phases": [slow, TOP]}, search=section), Budget(4, 3), Listener())
    assert found.first.best().values == {"train.phases.head.learning_rate": 0.05}
    tried = [
        (trial.values[FIRST_PHASE_AS], trial.values["train.phases.top.freeze_through"])
        for trial in found.whole.trials
    ]
    assert tried == [
        (AS_IT_WAS, "block4_pool"),
        (AS_FOUND, "block4_pool"),
        (AS_FOUND, "block3_pool"),
    ]
    assert found.default == found.whole.trials[0]
    assert found.trials == 5
    # With a better first phase these would be other trials: they begin anew, and all of them are counted.
    assert found.whole.name.endswith(f"{FIRST_PHASE} of trial {found.first.best().number}")


def test_settings_that_are_best_as_they_are_have_no_changes(make_job):
    section = {"space": {"train.phases.head.learning_rate": [HEAD["learning_rate"], 1e-9]}}
    found = search(make_job({"phases": [HEAD]}, search=section), Budget(3, 0), Listener())
    assert found.changes == {}
    assert found.best_settings == found.settings
    assert found.best == found.default


def test_a_rate_that_bursts_is_no_trial_that_wins(make_job):
    section = {"space": {"train.phases.head.learning_rate": [HEAD["learning_rate"], 3e38]}}
    found = search(make_job({"phases": [HEAD]}, search=section), Budget(4, 0), Listener())
    states = {trial.values["train.phases.head.learning_rate"]: trial.state for trial in found.first.trials}
    assert states[3e38] == "diverged"
    assert found.best.values["train.phases.head.learning_rate"] == HEAD["learning_rate"]


def test_pixels_that_change_at_random_are_searched_by_whole_trainings(make_job):
    train = {
        "phases": [HEAD],
        "augmentation": {"horizontal_flip": True},
        "features": {"cache": "off", "batch_size": 8},
    }
    section = {"space": {"train.phases.head.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"}}}
    found = search(make_job(train, search=section), Budget(5, 2), Listener())
    assert found.first is None
    assert len(found.whole.trials) == 2
    assert found.linear_probe is None


def test_time_that_is_over_ends_a_search_with_the_first_trial_done(make_job):
    job = make_job({"phases": [HEAD, TOP]}, search={"space": SPACE | LATER})
    found = search(job, Budget(5, 5, minutes=0.0), Listener())
    assert [len(study.trials) for study in found.studies] == [1, 1]
    assert not found.complete
    assert search(job, Budget(2, 1), Listener()).complete


def test_convolutions_that_learn_are_searched_by_whole_trainings(make_job):
    section = {"space": {"train.phases.all.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"}}}
    phase = HEAD | {"name": "all", "freeze_through": "block4_pool", "epochs": 1}
    found = search(make_job({"phases": [phase]}, search=section), Budget(5, 2), Listener())
    assert found.first is None
    assert len(found.whole.trials) == 2


def test_features_in_16_bits_are_searched_as_they_are(make_job):
    section = {"space": {"train.phases.head.learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"}}}
    job = make_job({"phases": [HEAD], "precision": "mixed"}, search=section)
    found = search(job, Budget(3, 0), Listener())
    trained = fit(replace(job, settings=found.best_settings), SilentObserver())
    assert found.best.value == pytest.approx(min(row["val_loss"] for row in trained.history), rel=0.02)
