"""The page of a search, also of one that found nothing."""

import pytest

from vggflow.report import search_page
from vggflow.search.run_search import FIRST_PHASE, WHOLE, Found
from vggflow.search.study import Study, Trial
from vggflow.settings import Range, parse

RATE = "train.phases.head.learning_rate"
SPACE = {RATE: Range(low=1e-4, high=1.0, scale="log"), "model.dropout": (0.0, 0.5)}
CONTENT = {
    "model": {"image_size_px": 64},
    "validate": {},
    "train": {"phases": [{"name": "head", "freeze_through": "block5_pool", "learning_rate": 0.01}]},
    "evaluate": {},
    "registry": {"experiment": "none"},
}


def study(path, name, values):
    made = Study(path, name, SPACE, parse(CONTENT).search, [{RATE: 0.01, "model.dropout": 0.0}])
    for value in values:
        asked = made.ask()
        state = "complete" if value is not None else "diverged"
        made.tell(asked, Trial(asked.number, state, asked.values, value, value, value and 1 - value, 0.5))
    return made


def found(first, whole=None, complete=True):
    last = whole or first
    settings = parse(CONTENT)
    return Found(settings, first, whole, last.best(), settings, last.trials[0], 0.8, 40, "key", 9, complete)


def page(what, tmp_path, diff="") -> str:
    search_page.write(what, diff, tmp_path / "page.html", title="Search of <pets>")
    return (tmp_path / "page.html").read_text()


def test_a_search_with_many_trials_shows_history_and_importance(tmp_path):
    values = [0.5, 0.4, 0.45, None, *(0.3 + 0.01 * number for number in range(12))]
    text = page(found(study(tmp_path / "s.db", FIRST_PHASE, values)), tmp_path, diff="-<old>\n+new")
    assert text.count("data:image/png") == 2
    assert "1 of them ended early" in text
    assert "Search of &lt;pets&gt;" in text and "-&lt;old&gt;" in text
    assert "80.0 %" in text and "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("values", [[None], [None, None, None], [0.5]])
def test_a_search_that_found_nothing_has_a_page_too(tmp_path, values):
    text = page(found(study(tmp_path / "s.db", FIRST_PHASE, values), complete=False), tmp_path)
    assert "Nothing better" in text
    assert "the time was over before all were done" in text


def test_a_first_phase_that_later_ones_make_worse_is_said_to_be(tmp_path):
    first, worse = study(tmp_path / "s.db", FIRST_PHASE, [0.5, 0.2]), study(tmp_path / "s.db", WHOLE, [0.3])
    said = "The first phase alone was better than any whole training"
    assert said in page(found(first, worse), tmp_path)
    better = study(tmp_path / "s.db", f"{WHOLE}, better", [0.1])
    assert said not in page(found(first, better), tmp_path)
