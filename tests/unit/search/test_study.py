"""Which values come next, and what is kept of those before."""

import math
import sqlite3
from pathlib import Path

import pytest

from vggflow.errors import VggflowError
from vggflow.search.study import Study, Trial, count_all
from vggflow.settings import Range, SearchSettings

SPACE = {
    "rate": Range(low=1e-4, high=1.0, scale="log"),
    "head": ("pooling", "flatten"),
    "n": Range(low=1, high=9),
}
NOW = {"rate": 0.01, "head": "pooling", "n": 3}


def study(path: Path, seed: int = 0, planned=(NOW,), metric: str = "val_loss") -> Study:
    return Study(path, "first phase", SPACE, SearchSettings(seed=seed, metric=metric), planned)


def go(made: Study, count: int) -> None:
    """Trials of a function with its best at a rate of 10⁻²·⁵."""
    while len(made.trials) < count:
        asked = made.ask()
        value = abs(math.log10(asked.values["rate"]) + 2.5) + 0.1 * asked.values["n"]
        pruned = any(asked.is_hopeless(value + 1 / epoch, epoch) for epoch in range(1, 5))
        state = "pruned" if pruned else "complete"
        row = {"phase": "head", "epoch": 1, "val_loss": value}
        made.tell(asked, Trial(asked.number, state, asked.values, value, value, 0.5, 0.1, [row]))


def facts(made: Study) -> list[tuple]:
    return [(trial.number, trial.state, dict(trial.values), trial.value) for trial in made.trials]


def test_the_same_seed_draws_the_same_trials_and_another_one_others(tmp_path):
    one, same, other = (study(tmp_path / f"{name}.db", seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for each in (one, same, other):
        go(each, 25)
    assert facts(one) == facts(same)
    assert facts(one) != facts(other)
    assert {trial.state for trial in one.trials} == {"complete", "pruned"}


def test_a_study_that_is_opened_again_goes_on_as_if_it_had_never_been_closed(tmp_path):
    whole = study(tmp_path / "whole.db")
    go(whole, 25)
    for count in (1, 2, 11, 17, 25):
        parts = study(tmp_path / "parts.db")
        # Asked for and never told, as where the process is killed in a trial.
        parts.ask()
        parts = study(tmp_path / "parts.db")
        go(parts, count)
    again = study(tmp_path / "parts.db")
    assert facts(again) == facts(whole)
    assert list(again.trials[3].rows) == list(whole.trials[3].rows)
    assert count_all(tmp_path / "parts.db") == 25


def test_what_is_planned_comes_first_also_where_the_space_does_not_hold_it(tmp_path):
    outside = {"rate": 5.0, "head": "pooling", "n": 30}
    made = study(tmp_path / "s.db", planned=(outside, NOW))
    go(made, 14)
    assert [dict(trial.values) for trial in made.trials[:2]] == [outside, NOW]
    # What lies outside is no reason to look there: nothing else does.
    assert all(trial.values["n"] <= 9 for trial in made.trials[1:])
    again = study(tmp_path / "s.db", planned=(outside, NOW))
    assert facts(again) == facts(made)


def test_of_equal_trials_the_first_is_best_and_one_that_diverged_never(tmp_path):
    made = study(tmp_path / "s.db", metric="val_accuracy")
    for state, value in (
        ("complete", 0.5),
        ("complete", 0.9),
        ("complete", 0.9),
        ("diverged", 1.0),
        ("pruned", 1.0),
    ):
        asked = made.ask()
        made.tell(asked, Trial(asked.number, state, asked.values, value, 0.1, value, 0.1))
    assert made.best() == made.trials[1]
    assert study(tmp_path / "s.db", metric="val_accuracy").best() == made.trials[1]


def test_nothing_is_tried_twice_and_a_space_that_is_exhausted_ends_the_study(tmp_path):
    space = {"head": ("pooling", "flatten"), "n": Range(low=1, high=3)}
    made = Study(tmp_path / "s.db", "few", space, SearchSettings(), [{"head": "pooling", "n": 3}])
    for _ in range(6):
        asked = made.ask()
        made.tell(asked, Trial(asked.number, "complete", asked.values, 1.0, 1.0, 0.5, 0.1))
    assert len({(trial.values["head"], trial.values["n"]) for trial in made.trials}) == 6
    assert made.ask() is None


def test_a_study_without_a_complete_trial_has_no_best_one(tmp_path):
    made = study(tmp_path / "s.db")
    asked = made.ask()
    made.tell(asked, Trial(0, "diverged", asked.values, None, None, None, 0.1))
    assert made.best() is None
    assert made.importance() == {}


def test_what_makes_the_difference_is_found(tmp_path):
    made = study(tmp_path / "s.db")
    go(made, 60)
    shares = made.importance()
    assert set(shares) == set(SPACE)
    assert shares["rate"] > shares["head"]
    assert sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_file_that_is_damaged_is_one_line_and_an_empty_one_a_new_study(tmp_path, content):
    path = tmp_path / "s.db"
    path.write_bytes(content)
    if not content:
        assert study(path).trials == []
        return
    with pytest.raises(VggflowError, match=r"can't be read or kept .*not a database.*remove it") as refused:
        study(path)
    assert "\n" not in str(refused.value)


def test_a_file_whose_trials_were_damaged_is_one_line(tmp_path):
    made = study(tmp_path / "s.db")
    go(made, 3)
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("UPDATE trial_user_attributes SET value_json = '{}'")
    with pytest.raises(VggflowError, match="can't be read or kept"):
        study(tmp_path / "s.db")
