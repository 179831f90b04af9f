"""How far work is, for people and for whoever started it."""

from pathlib import Path

import pytest

from vggflow import console
from vggflow.files import read_json


def test_a_file_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(console.PROGRESS, str(file))
    with console.progress("train") as advance:
        advance(1, 4, "phase head")
        assert read_json(file) == {"what": "train", "done": 1, "total": 4, "note": "phase head"}
        advance(2, 4)  # within the same second
        assert read_json(file)["done"] == 1
        advance(4, 4)
        assert read_json(file)["done"] == 4


def test_without_a_name_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(console.PROGRESS, raising=False)
    monkeypatch.chdir(tmp_path)
    with console.progress("train") as advance:
        advance(1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(console.PROGRESS, str(tmp_path / "file" / "progress.json"))
    with console.progress("train") as advance:
        advance(1, 1)
