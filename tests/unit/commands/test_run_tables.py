"""What `vggflow runs` prints: folded at 80 columns, short however many classes there are, names as they are."""

import io
import sys
from collections.abc import Callable

import pandas as pd
import pytest
from rich.text import Text

from vggflow.commands import run_tables, runs
from vggflow.commands.run_comparison import RunComparison
from vggflow.data import changes
from vggflow.report.run_differences import differences
from vggflow.report.run_outcomes import Outcome, Paired
from vggflow.tracking.past_runs import PastRun

CLASSES = [f"[red]{number:04}" for number in range(1000)]


class Screen(io.StringIO):
    """A terminal that keeps what is printed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def in_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[str]]:
    """The lines that something prints in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has 80, whatever COLUMNS says

    def lines(work: Callable[[], None]) -> list[str]:
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        work()
        return [Text.from_ansi(line).plain for line in screen.getvalue().splitlines()]

    return lines


def _run(run_id: str, **params: str) -> PastRun:
    tags = {"git.commit": "c" * 40, "data.hash": f"{run_id}.dir", "sha256.vggflow": "5" * 16}
    return PastRun(run_id * 32, "FINISHED", 0, None, 18, params, tags, {})


def _outcome(recall: float, worst: str, trained_on: pd.DataFrame) -> Outcome:
    per_class = {name: {"recall": recall - 0.5 * (name == worst)} for name in CLASSES}
    intervals = {"per_class": {name: {"recall": [0.1, 1.0]} for name in CLASSES}, "accuracy": [0.1, 1.0]}
    measured = {"split": "test", "accuracy": recall, "per_class": per_class, "intervals": intervals}
    return Outcome(measured=measured, trained_on=trained_on)


def _comparison() -> RunComparison:
    images = pd.DataFrame(
        {"path": [f"train/{name}/1.png" for name in CLASSES], "split": "train", "class_name": CLASSES}
        | {"sha256": CLASSES, "error": None, "excluded": None}
    )
    outcomes = _outcome(1.0, "none", images), _outcome(0.999, CLASSES[500], images.head(1))
    settings = {f"train.phases.{number}.learning_rate": "0.1" for number in range(50)}
    first, second = _run("a", **settings), _run("b", **dict.fromkeys(settings, "0.2"))
    made = differences({**first.tags, **first.params}, {**second.tags, **second.params})
    found = changes.compare(images, images.head(1))
    return RunComparison(
        first, second, made, found, outcomes, Paired(9_000, 99, 9, -0.01, (-0.1, -0.01), 1e-9)
    )


def test_a_thousand_classes_and_fifty_settings_stay_readable(in_terminal):
    lines = in_terminal(lambda: run_tables.show(_comparison()))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 90
    recalls = [line for line in lines if line.startswith("recall of ")]
    assert len(recalls) == 10
    assert recalls[0].split() == [
        *("recall", "of", "[red]0500", "100.0", "%", "(10.0–100.0)", "49.9", "%", "(10.0–100.0)", "−50.1"),
    ]
    assert [line for line in lines if line.endswith(" more: --json has all")] == [
        *(
            "… and 20 more: --json has all",
            "… and 989 more: --json has all",
            "… and 990 more: --json has all",
        ),
    ]
    assert ["train/[red]0001", "1", "0"] in [line.split() for line in lines]


def test_all_of_it_is_in_the_json():
    found = _comparison().to_dict()
    assert len(found["recall"]) == 1000 and found["recall"][0]["change"] == pytest.approx(-0.501)
    assert len(found["settings"]["differences"]) == 50


def test_the_widest_rows_of_the_list_fit(in_terminal):
    row = {"run": "f" * 32, "age_seconds": 3_540, "commit": "c" * 40, "uncommitted": True, "data": "d" * 32}
    row |= {
        "images": 123_456,
        "epochs": 120,
        "valid": 1.0,
        "split": "test",
        "accuracy": 1.0,
        "status": "finished",
    }
    row |= {"interval": (0.985, 1.0), "became": "candidate:12"}
    killed = dict.fromkeys(row) | {"run": "e" * 32, "age_seconds": 90_000, "status": "killed"}
    lines = in_terminal(lambda: runs.show([row, killed]))
    assert [len(line.rstrip()) <= 80 for line in lines] == [True] * 3
    assert "59 min ccccccc+ dddddd 123456    120 100.0 100.0 (98–100) candidate:12" in lines[1]
    assert lines[2].split() == ["e" * 8, "1", "d", *"––––––", "killed"]


def test_an_accuracy_on_valid_is_not_shown_as_that_on_test(capsys):
    row = {"run": "f" * 32, "age_seconds": 0, "commit": None, "uncommitted": None, "data": None, "images": 9}
    row |= {
        "epochs": 1,
        "valid": 0.875,
        "split": "valid",
        "accuracy": 0.875,
        "interval": None,
        "became": None,
    }
    runs.show([row | {"status": "finished"}])
    assert capsys.readouterr().out.count("87.5") == 1
