"""How far work is, for people and for whoever started it; tables for people and for pipes."""

import os
import pty
import sys
from pathlib import Path

import pytest
from rich.text import Text

from vggflow import console, environment
from vggflow.files import read_json


def test_a_file_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(environment.PROGRESS, str(file))
    with console.progress("train") as advance:
        advance(1, 4, "phase head")
        assert read_json(file) == {"what": "train", "done": 1, "total": 4, "note": "phase head"}
        advance(2, 4)  # within the same second
        assert read_json(file)["done"] == 1
        advance(4, 4)
        assert read_json(file)["done"] == 4


def test_without_a_name_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(environment.PROGRESS, raising=False)
    monkeypatch.chdir(tmp_path)
    with console.progress("train") as advance:
        advance(1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(environment.PROGRESS, str(tmp_path / "file" / "progress.json"))
    with console.progress("train") as advance:
        advance(1, 1)


REASON = "worse on Mondays, " * 30
ROWS = [["1", REASON], ["2", "wrong\n→ mend it"]]


def test_a_row_is_one_line_where_output_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    console.out.print(console.table("", ["version", "why"], ROWS))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == ["version", "1", "2"]
    assert REASON.strip() in lines[1] and lines[2].rstrip().endswith("wrong → mend it")


def test_a_terminal_s_width_folds_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has 80, whatever COLUMNS says
    there, here = pty.openpty()
    with os.fdopen(here, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        console.Stream().print(console.table("", ["version", "why"], ROWS))
        terminal.flush()
        lines = os.read(there, 10_000).decode().splitlines()
    os.close(there)
    widths = [Text.from_ansi(line).cell_len for line in lines]
    assert len(lines) > 10 and max(widths) <= 60
