"""Predictions into a file: rows, formats, and runs that are killed anywhere."""

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggflow.commands.predict import FORMATS
from vggflow.errors import UsageError
from vggflow.prediction import batch
from vggflow.prediction.batch import Batch
from vggflow.prediction.predictor import Predictor


def silent(_done, _total, _note):
    """For runs whose progress nobody looks at."""


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(batch, "BATCH_SIZE", 2)
    monkeypatch.setattr(batch, "PART_ROWS", 4)


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    """Eleven files: two that are no images, one whose name is no text, one that is not there any more."""
    folder = tmp_path_factory.mktemp("many")
    found = []
    for number in range(11):
        path = folder / f"{number}.png"
        if number == 7:
            path = Path(os.fsdecode(os.fsencode(folder) + b"/\xff7.png"))
        shutil.copyfile(images[number % len(images)], path)
        found.append(path)
    found[3].write_bytes(found[3].read_bytes()[:100])
    found[4].write_bytes(b"")
    found[9].unlink()
    return found


@pytest.fixture(scope="module")
def predictor(model_path):
    return Predictor(model_path)


def job(predictor, paths, destination, sha256="a" * 64):
    return Batch(predictor, "pets version 3", sha256, paths, destination)


def rows_of(path):
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def whole(predictor, paths, tmp_path_factory):
    """The rows of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "BATCH_SIZE", 2)
        patch.setattr(batch, "PART_ROWS", 4)
        summary = job(predictor, paths, out).run(silent)
    assert (summary.images, summary.unreadable, summary.done_before) == (11, 3, 0)
    assert [entry.name for entry in out.parent.iterdir()] == ["out.parquet"]
    return rows_of(out)


def test_every_image_has_a_row_with_its_answer_or_the_reason_why_there_is_none(whole, predictor, paths):
    assert [row["path"] for row in whole] == [batch.as_text(path) for path in paths]
    assert whole[7]["path"].endswith("\\xff7.png")
    unread = {3, 4, 9}
    expected = predictor.predict([path for number, path in enumerate(paths) if number not in unread])
    answered = [row for number, row in enumerate(whole) if number not in unread]
    np.testing.assert_allclose([[row["p:cats"], row["p:dogs"]] for row in answered], expected, atol=1e-6)
    for row, answer in zip(answered, expected, strict=True):
        assert row["label"] == ("cats", "dogs")[answer.argmax()]
        assert (row["model"], row["error"]) == ("pets version 3", None)
    assert {(row["label"], row["p:cats"], row["p:dogs"]) for row in (whole[3], whole[4], whole[9])} == {
        (None, None, None)
    }
    assert whole[4]["error"] == "the file is empty"
    assert "No such file" in whole[9]["error"]
    digests = [None if number == 9 else path.read_bytes() for number, path in enumerate(paths)]
    assert [row["sha256"] for row in whole] == [
        content if content is None else hashlib.sha256(content).hexdigest() for content in digests
    ]


def test_the_formats_say_the_same(whole, predictor, paths, tmp_path):
    for name in ("out.csv", "out.jsonl", "OUT.PARQUET"):
        job(predictor, paths, tmp_path / name).run(silent)
    assert rows_of(tmp_path / "OUT.PARQUET") == whole
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == whole
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["label"] or None for row in cells] == [row["label"] for row in whole]
    assert [float(row["p:cats"]) if row["p:cats"] else None for row in cells] == [
        row["p:cats"] for row in whole
    ]


def killed_after(predictor, paths, out, batches):
    """A run that is killed when so many batches were answered."""

    def count(done, _total, _note):
        nonlocal batches
        batches -= 1
        if batches < 0:
            raise Killed

    with pytest.raises(Killed):
        job(predictor, paths, out).run(count)


@settings(max_examples=15, deadline=None)
@given(kills=st.lists(st.integers(0, 3), max_size=5))
def test_a_run_that_is_killed_anywhere_ends_with_the_rows_of_one_that_is_not(
    whole, predictor, paths, tmp_path_factory, kills
):
    out = tmp_path_factory.mktemp("killed") / "out.parquet"
    for batches in kills:
        try:
            killed_after(predictor, paths, out, batches)
        except pytest.fail.Exception:
            break  # it was over before
        assert not out.exists()
    job(predictor, paths, out).run(silent)
    assert rows_of(out) == whole
    assert [entry.name for entry in out.parent.iterdir()] == ["out.parquet"]


def test_what_was_answered_before_a_kill_is_not_asked_again(whole, predictor, paths, tmp_path):
    killed_after(predictor, paths, tmp_path / "out.parquet", 3)
    told = []
    summary = job(predictor, paths, tmp_path / "out.parquet").run(lambda *told_now: told.append(told_now))
    assert summary.done_before == 4
    assert (told[0][:2], told[-1]) == ((6, 11), (11, 11, "3 unreadable"))


def test_a_part_that_the_disk_damaged_is_predicted_again(whole, predictor, paths, tmp_path):
    out = tmp_path / "out.parquet"
    killed_after(predictor, paths, out, 5)
    part = tmp_path / ".out.parquet.parts" / "00000001.parquet"
    content = bytearray(part.read_bytes())
    content[60] ^= 1
    part.write_bytes(content)
    assert job(predictor, paths, out).run(silent).done_before == 4
    assert rows_of(out) == whole


def test_the_command_takes_the_endings_that_can_be_written():
    assert set(FORMATS) == set(batch._WRITERS)


def test_an_image_that_was_replaced_since_is_asked_for_again(predictor, images, tmp_path):
    paths = [Path(shutil.copy(image, tmp_path)) for image in images]
    out = tmp_path / "out.parquet"
    killed_after(predictor, paths, out, 2)
    shutil.copyfile(images[1], paths[0])
    assert job(predictor, paths, out).run(silent).done_before == 0
    first, second = rows_of(out)[:2]
    assert first["sha256"] == second["sha256"]


@pytest.mark.parametrize("other", ["model", "images"])
def test_parts_of_another_model_or_of_other_images_are_not_taken(predictor, paths, tmp_path, other):
    out = tmp_path / "out.parquet"
    killed_after(predictor, paths, out, 3)
    second = job(predictor, paths, out, "b" * 64) if other == "model" else job(predictor, paths[1:], out)
    assert second.run(silent).done_before == 0
    assert len(rows_of(out)) == len(second.paths)


def test_two_do_not_write_one_file_at_once(predictor, paths, tmp_path):
    out = tmp_path / "out.parquet"

    def meanwhile(*_):
        with pytest.raises(UsageError, match="another vggflow process is writing"):
            job(predictor, paths, out).run(silent)

    job(predictor, paths[:2], out).run(meanwhile)
    assert len(rows_of(out)) == 2
