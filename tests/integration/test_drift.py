"""`vggflow drift`: batch predictions and a service keep what answers were like, and a look compares them."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tiny import COLOURS, Ran, draw

from vggflow import artifacts
from vggflow.commands import clean, drift
from vggflow.drift import compare
from vggflow.prediction import observations
from vggflow.tracking import connection, observed_answers
from vggflow.workspace import Workspace

Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny workspace holds out twenty pictures."""
    monkeypatch.setattr(compare, "FEWEST_IMAGES", 20)


def pictures(folder: Path, count: int, *, dark: bool = False, only: str = "") -> Path:
    """New pictures of the two colours, or of one of them."""
    for number in range(count):
        name = only or ("blue", "red")[number % 2]
        colour = COLOURS[name]
        draw(folder / f"{number:03}.png", tuple(c // 4 for c in colour) if dark else colour, 5_000 + number)
    return folder


def test_pictures_as_those_that_were_held_out_are_no_drift(
    vggflow: Run, here: Workspace, tmp_path: Path
) -> None:
    ran = vggflow("-C", here.root, "predict", pictures(tmp_path / "new", 40), "-o", tmp_path / "out.csv")
    assert ran.code == 0, ran.err
    assert "not kept" not in ran.err
    found = vggflow("-C", here.root, "drift")
    assert found.code == 0, found.err
    assert "no drift: none of 11 tests moved, 40 answers beside 20 held-out images" in found.out
    page = here.path(drift.PAGE).read_text()
    assert str(here.path(drift.PAGE)) in found.out
    assert "tiny version 1: does it still fit?" in page
    assert page.count("data:image/jpeg") == 16
    assert not re.search(r"https?://|<script", page)


def test_dark_pictures_are_drift_and_are_written_down(vggflow: Run, here: Workspace, tmp_path: Path) -> None:
    dark = pictures(tmp_path / "new", 40, dark=True)
    assert vggflow("-C", here.root, "predict", dark, "-o", tmp_path / "out.csv").code == 0
    found = vggflow("-C", here.root, "drift", "--json")
    assert found.code == 0, found.err
    content = json.loads(found.out)
    assert content["drift"] is True
    assert content["model"] == "tiny version 1"
    assert (content["answers"], content["images"], content["held_out"]) == (40, 40, 20)
    moved = [shift["name"] for shift in content["shifts"] if shift["moved"]]
    assert any(name.startswith("component") for name in moved)
    registry = connection.connect(here)
    place = registry.client.get_experiment_by_name("tiny-answers")
    (run,) = registry.client.search_runs([place.experiment_id])
    assert run.info.run_name == "tiny version 1"
    assert run.data.metrics["drift.found"] == 1.0
    assert run.data.metrics["drift.p.class shares"] <= 1.0
    assert [entry.path for entry in registry.client.list_artifacts(run.info.run_id, "drift")] == [
        "drift/report.html"
    ]


@pytest.mark.slow
def test_more_of_one_class_than_was_held_out_is_drift(vggflow: Run, here: Workspace, tmp_path: Path) -> None:
    red = pictures(tmp_path / "new", 60, only="red")
    assert vggflow("-C", here.root, "predict", red, "-o", tmp_path / "out.csv").code == 0
    found = drift.look(here, timedelta(days=1))
    assert found.drift is not None
    assert {shift.name for shift in found.drift.moved} >= {compare.CLASS_SHARES}


def test_without_answers_it_says_what_keeps_them(vggflow: Run, here: Workspace) -> None:
    found = vggflow("-C", here.root, "drift")
    assert found.code == 0
    assert "tiny version 1 gave 0 answers that were kept in this time, at least 20 are needed" in found.out
    assert not here.path(drift.PAGE).exists()


def test_what_is_printed_and_what_is_not_to_be_kept_is_not(
    vggflow: Run, here: Workspace, tmp_path: Path
) -> None:
    new = pictures(tmp_path / "new", 4)
    assert vggflow("-C", here.root, "predict", new).code == 0
    assert vggflow("-C", here.root, "predict", new, "-o", tmp_path / "out.csv", "--no-keep").code == 0
    assert drift.look(here, timedelta(days=1)).answers == 0


def test_rows_are_there_where_a_disk_does_not_take_what_answers_were_like(
    vggflow: Run, here: Workspace, tmp_path: Path
) -> None:
    no_folder = tmp_path / "file"
    no_folder.write_text("so that nothing can be written below it")
    connection.connect(here).client.create_experiment("tiny-answers", artifact_location=str(no_folder))
    ran = vggflow("-C", here.root, "predict", pictures(tmp_path / "new", 4), "-o", tmp_path / "out.csv")
    assert ran.code == 0, ran.err
    assert "not kept for `vggflow drift`: " in ran.err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5


def test_only_answers_since_then_count(here: Workspace) -> None:
    registry = connection.connect(here)
    now = datetime.now(UTC)
    for hours in (1, 30, 24 * 40):
        when = now - timedelta(hours=hours)
        some = observations.of(("blue", "red"), np.full((30, 2), 0.5), np.ones((30, 4), np.float32), when)
        observed_answers.write(registry, "tiny version 1", some)
    counts = [
        sum(
            part.images
            for part in observed_answers.read(registry, "tiny version 1", now - timedelta(hours=span))
        )
        for span in (2, 31, 24 * 50)
    ]
    assert counts == [30, 60, 90]
    assert observed_answers.read(registry, "tiny version 2", now - timedelta(days=90)) == []


def test_clean_takes_what_is_older_than_a_season(here: Workspace) -> None:
    registry = connection.connect(here)
    now = datetime.now(UTC)
    for days in (1, 89, 92, 400):
        when = now - timedelta(days=days)
        observed_answers.write(
            registry, "tiny version 1", observations.of(("a", "b"), np.full((3, 2), 0.5), None, when)
        )
    old = observed_answers.days_before(registry, now.date() - clean.ANSWERS_STAY)
    assert len(old) == 2
    observed_answers.remove(registry, old)
    assert observed_answers.days_before(registry, now.date()) != []
    assert observed_answers.days_before(registry, now.date() - clean.ANSWERS_STAY) == []
    assert len(observed_answers.read(registry, "tiny version 1", now - timedelta(days=500))) == 2


def test_a_file_that_is_damaged_in_the_store_is_said_and_left_out(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = connection.connect(here)
    now = datetime.now(UTC)
    some = observations.of(("blue", "red"), np.full((30, 2), 0.5), None, now)
    for _ in range(2):
        observed_answers.write(registry, "tiny version 1", some)
    first, _ = here.path(drift.PAGE).parents[1].rglob("observed/*/*.parquet")
    first.write_bytes(first.read_bytes()[:100])
    assert len(observed_answers.read(registry, "tiny version 1", now - timedelta(hours=1))) == 1
    assert "holds no observations" in capsys.readouterr().err


@pytest.mark.slow
def test_where_answers_can_t_be_kept_the_rows_are_there_all_the_same(
    vggflow: Run, here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = pictures(tmp_path / "new", 4)
    assert vggflow("-C", here.root, "predict", new).code == 0  # the champion's copy is here from now on
    # As where another program works on it: the copy answers, and nothing can be written.
    with closing(sqlite3.connect(here.path(artifacts.MLFLOW_DATABASE), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ran = vggflow("-C", here.root, "predict", new, "-o", tmp_path / "out.csv")
    assert (ran.code, (tmp_path / "out.csv").read_text().count("\n")) == (0, 5)
    assert "not kept for `vggflow drift`: MLflow at" in ran.err


@pytest.mark.slow
def test_too_few_held_out_images_are_said_with_what_to_do(
    vggflow: Run, here: Workspace, tmp_path: Path
) -> None:
    assert (
        vggflow("-C", here.root, "predict", pictures(tmp_path / "new", 30), "-o", tmp_path / "out.csv").code
        == 0
    )
    shutil.rmtree(here.root / "data" / "test")
    found = vggflow("-C", here.root, "drift")
    assert found.code == 2
    assert "holds 8 of the 20 images of valid and test" in found.err
