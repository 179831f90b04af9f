"""Predictions of any number of images into one file: memory that stays flat, and a kill that costs seconds.

Rows are written in parts beside the file, each whole or absent, and put together at the end. A part always holds the
same images in the same batches, so a run that was killed ends with the rows of one that was not.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vggflow import files
from vggflow.data.places import Place, path_of
from vggflow.errors import DataError, UsageError
from vggflow.prediction import observations, spread_answers
from vggflow.prediction.observations import MOST_IMAGES, Observations
from vggflow.prediction.predictor import BATCH_SIZE, Answers, Predictor, joined
from vggflow.prediction.table import ERROR, LABEL, labels_of, probability_column
from vggflow.processes import locks

PATH, SHA256, MODEL = "path", "sha256", "model"
# Whole batches, so that where a part begins changes no batch, and with it no last digit of an answer.
PART_ROWS = 32 * BATCH_SIZE
# Of how parts are written: others are begun anew.
FORMAT = 2
JOB, LOCK = "job.json", "lock"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Summary:
    """What was done.

    Attributes:
        images: How many were answered for.
        unreadable: How many of these can't be read.
        done_before: How many a run before had done.
        observations: What is worth keeping of the answers; None where there are none.
    """

    images: int
    unreadable: int
    done_before: int
    observations: Observations | None


@dataclass(frozen=True)
class Batch:
    """Images to predict, and where to.

    Args:
        predictor: The model.
        model: What it is called in the rows, such as `pets version 3`.
        model_sha256: Of its file: what was predicted with another one is not gone on with.
        paths: The images, in the order of the rows.
        destination: A .parquet, .csv or .jsonl file; it appears when all rows are there.
        data_folder: What DVC says of it tells a cluster where else some of the images are.
    """

    predictor: Predictor
    model: str
    model_sha256: str
    paths: Sequence[Path | Place]
    destination: Path
    data_folder: Path | None = None

    def run(self, progress: Progress) -> Summary:
        """Predicts what no run before has, and writes the file.

        Args:
            progress: Called after each batch with the images done, all images, and a note.

        Raises:
            UsageError: another process is writing the file.
            VggflowError: the disk is full.
        """
        with self._parts() as folder:
            before = self._go_on(folder)
            unreadable = self._predict(folder, before, progress)
            with files.replacing(self.destination) as beside:
                _WRITERS[self.destination.suffix.lower()](beside, self._tables(folder), self._schema())
            done_before = min(before * PART_ROWS, len(self.paths))
            return Summary(len(self.paths), unreadable, done_before, self._observations(folder))

    @contextmanager
    def _parts(self) -> Iterator[Path]:
        """The folder that parts lie in, for this process alone; it stays where the block does not end well."""
        folder = self.destination.parent / f".{self.destination.name}.parts"
        with locks.if_free(folder / LOCK) as alone:
            if not alone:
                raise UsageError(
                    f"another vggflow process is writing {self.destination}: wait for it, or name another file"
                )
            yield folder
            shutil.rmtree(folder)

    def _go_on(self, folder: Path) -> int:
        """How many parts are there already; none of another job is left."""
        job = self._job()
        with suppress(OSError, ValueError):  # no job yet, or the kill came while it was begun
            if files.read_json(folder / JOB) == job:
                return next(number for number in range(self._count + 1) if not self._is_whole(folder, number))
        for left in folder.iterdir():
            if left.name != LOCK:
                left.unlink()
        files.write_json(folder / JOB, job)
        return 0

    def _job(self) -> dict[str, Any]:
        named = hashlib.sha256()
        for path in self.paths:
            named.update(os.fsencode(path_of(path)) + f"\0{_state(path)}\0".encode())
        return {
            "format": FORMAT,
            "model": [self.model, self.model_sha256],
            "images": [len(self.paths), named.hexdigest()],
            "rows": [PART_ROWS, BATCH_SIZE],
        }

    @property
    def _count(self) -> int:
        return -(-len(self.paths) // PART_ROWS)

    def _is_whole(self, folder: Path, number: int) -> bool:
        """Also after a disk lost some bytes of it: then it is predicted again."""
        try:
            table = pq.read_table(_part(folder, number), page_checksum_verification=True)
            observations.read(_observed(folder, number))
        except (OSError, pa.ArrowException, DataError):
            return False
        return bool(table.num_rows == len(self._of_part(number)))

    def _of_part(self, number: int) -> Sequence[Path | Place]:
        return self.paths[number * PART_ROWS : (number + 1) * PART_ROWS]

    def _predict(self, folder: Path, before: int, progress: Progress) -> int:
        """Writes the parts that are missing; how many images of all parts can't be read."""
        done = min(before * PART_ROWS, len(self.paths))
        unreadable = sum(
            _part_errors(pq.read_table(_part(folder, number), columns=[ERROR])) for number in range(before)
        )
        rest, chosen = self.paths[done:], self._chosen()
        with closing(spread_answers.answers(self.predictor, rest, BATCH_SIZE, self.data_folder)) as answers:
            for number in range(before, self._count):
                begin, found = done, list[Answers]()
                while done < begin + len(self._of_part(number)):
                    found.append(next(answers))
                    done += len(found[-1].errors)
                    unreadable += sum(map(bool, found[-1].errors))
                    progress(done, len(self.paths), f"{unreadable} unreadable" if unreadable else "")
                self._write_part(folder, number, joined(found), chosen[begin:done])
        return unreadable

    def _write_part(self, folder: Path, number: int, found: Answers, chosen: NDArray[np.bool_]) -> None:
        # Before the rows, by which a part counts as done.
        observations.write(self._observed(found, chosen), _observed(folder, number))
        with files.replacing(_part(folder, number)) as beside:
            pq.write_table(self._table(self._of_part(number), found), beside, write_page_checksum=True)

    def _chosen(self) -> NDArray[np.bool_]:
        """Of which images confidence and features are kept: the same ones in a run that goes on."""
        count = len(self.paths)
        chosen = np.zeros(count, bool)
        chosen[np.random.default_rng(0).choice(count, min(count, MOST_IMAGES), replace=False)] = True
        return chosen

    def _observed(self, answers: Answers, chosen: NDArray[np.bool_]) -> Observations:
        names, now = self.predictor.info.class_names, datetime.now(UTC)
        return observations.of(names, answers.probabilities, answers.features, now, chosen)

    def _observations(self, folder: Path) -> Observations | None:
        found = observations.merge(
            [observations.read(_observed(folder, number)) for number in range(self._count)]
        )
        return found if found.images else None

    def _schema(self) -> pa.Schema:
        columns = [probability_column(name) for name in self.predictor.info.class_names]
        texts = [pa.field(name, pa.string()) for name in (PATH, SHA256, LABEL)]
        numbers = [pa.field(name, pa.float64()) for name in columns]
        return pa.schema([*texts, *numbers, pa.field(MODEL, pa.string()), pa.field(ERROR, pa.string())])

    def _table(self, paths: Sequence[Path | Place], answers: Answers) -> pa.Table:
        missing = np.array([bool(error) for error in answers.errors])
        labels = labels_of(answers.probabilities, self.predictor.info.class_names)
        columns = [pa.array(column, mask=missing) for column in answers.probabilities.T]
        texts = [list(map(as_text, paths)), [digest or None for digest in answers.sha256], labels]
        told = [[self.model] * len(paths), [error or None for error in answers.errors]]
        return pa.table([*texts, *columns, *told], schema=self._schema())

    def _tables(self, folder: Path) -> Iterator[pa.Table]:
        for number in range(self._count):
            yield pq.read_table(_part(folder, number), schema=self._schema())


def as_text(path: Path | Place) -> str:
    """A path as UTF-8, in which bytes that are no text become escapes: tables hold text only."""
    return os.fsencode(path_of(path)).decode("utf-8", "backslashreplace")


def _state(path: Path | Place) -> str:
    """What changes when a file does: an image that was replaced since is another image."""
    try:
        found = Path(path.file).stat() if isinstance(path, Place) else path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:08}.parquet"


def _observed(folder: Path, number: int) -> Path:
    return folder / f"{number:08}.observed"


def _part_errors(table: pa.Table) -> int:
    return int(table.num_rows - table[ERROR].null_count)


def _write_parquet(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _write_csv(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema.names)
        for table in tables:
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _write_jsonl(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in tables:
            for row in table.to_pylist():
                file.write(json.dumps({name: row[name] for name in schema.names}, ensure_ascii=False) + "\n")


_WRITERS: dict[str, Callable[[Path, Iterator[pa.Table], pa.Schema], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
