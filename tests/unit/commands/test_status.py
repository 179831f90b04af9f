"""One screen that says how a workspace is doing."""

from datetime import datetime
from pathlib import Path

import pytest

from vggflow.commands import local_runs, status
from vggflow.workspace import Workspace

RUN = {
    "run": "nightly · data 3f2a91 · 2026-11-21",
    "state": "Promoted",
    "message": "",
    "at": "2026-11-21T02:00:05",
}
FOUND = {
    "workspace": "pets",
    "folder": "/home/ann/pets",
    "data": {"version": "3f2a91" + 26 * "0" + ".dir", "state": "same"},
    "models": {
        "champion": {"version": 4, "accuracy": 0.9812, "data": "3f2a91000", "made": "2026-11-21 02:31"},
        "challenger": None,
        "hold": "version 3 was rolled back: " + 30 * "worse on cats ",
        "problem": None,
    },
    "server": {
        "address": "http://127.0.0.1:4200/api",
        "problem": None,
        "runs": [RUN | {"seconds": 1900}],
        "queue": [RUN | {"state": "AwaitingConcurrencySlot", "seconds": 0}],
        "next": [RUN | {"run": "retrain-nightly@pets", "seconds": 0}],
        "workers": 1,
        "unserved": [{"pool": "vggflow", "queue": "gpu"}],
    },
}


def test_the_screen_holds_everything_within_80_columns() -> None:
    lines = status.render(FOUND)
    text = "\n".join(lines)
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 24
    assert "version 4, accuracy 98.1%" in text
    assert "challenger  none yet" in text
    assert "11-21 02:00  Promoted         nightly · data 3f2a91 · 2026-11-21 (31 min)" in text
    assert "retrain-nightly@pets" in text
    assert "1 worker online" in text
    assert "no worker serves vggflow / gpu" in text


def test_a_server_that_is_away_is_named_and_the_rest_is_there() -> None:
    away = FOUND | {
        "server": FOUND["server"] | {"problem": "nobody answers", "runs": [], "queue": [], "next": []}
    }
    text = "\n".join(status.render(away))
    assert "nobody answers" in text
    assert "version 4" in text


def test_without_a_server_the_runs_by_hand_are_shown(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    here = Workspace(workspace)
    for number in range(local_runs.KEPT + 5):
        local_runs.add(here, "by hand", "Promoted", f"run {number}", datetime.now().astimezone())
    assert len(local_runs.runs(here)) == local_runs.KEPT
    found = status.overview(here)
    assert [run["message"] for run in found["server"]["runs"]] == [f"run {n}" for n in range(24, 19, -1)]
    assert found["models"]["champion"] is None
    assert found["data"]["state"] == "same"
    assert "no schedules" in "\n".join(status.render(found))


def test_nothing_is_cut_where_output_is_no_terminal() -> None:
    problem = "MLflow at http://mlflow.example:5000 said: " + "no answer, " * 20
    found = FOUND | {"models": FOUND["models"] | {"problem": problem}}
    assert not any(problem in line for line in status.render(found))
    assert any(problem in line for line in status.render(found, whole=True))
