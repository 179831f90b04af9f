"""`vggflow predict`: what a model says about images: a few of them in a table, any number of them in a file."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow import console, files
from vggflow.commands import named_model, options
from vggflow.console import out, say, table, tell
from vggflow.errors import DataError, Refused, UsageError, VggflowError
from vggflow.processes import nvidia_smi

if TYPE_CHECKING:
    from vggflow.prediction.predictor import Predictor

CHAMPION = "champion"
# Stands for a list of paths on standard input, one a line.
LIST = "-"
FORMATS = (".parquet", ".csv", ".jsonl")
NOTHING = "–"


def command(
    context: typer.Context,
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Images, folders of images, or - for a list on standard input."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write any number of rows: a .parquet, .csv or .jsonl file."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="champion, challenger, a version such as 3 or candidate:3, or a model file."),
    ] = CHAMPION,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for an image.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 where an image can't be read.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Says what a model, the champion unless told otherwise, sees in images."""
    if output is not None and (as_json or top > 1):
        raise UsageError(
            "--json and --top are for what is printed, a file has all probabilities: leave them out"
        )
    named = _named(places)
    if output is not None:
        unreadable, images = predict_to_file(context.obj, named, output, model)
    else:
        predictions = predict(context.obj, named, model)
        _show(predictions, top, as_json=as_json)
        unreadable, images = sum(map(bool, predictions.errors)), len(predictions.paths)
    if strict and unreadable:
        raise Refused(f"{unreadable} of {images} images can't be read: leave them out or replace them")


@dataclass(frozen=True)
class Predictions:
    """What a model says about N images.

    Attributes:
        model: What it is called.
        probabilities: Of the K classes, shape (N, K); NaN in rows of images that can't be read.
        errors: Why, for these; empty for the others.
    """

    model: str
    paths: Sequence[Path]
    class_names: tuple[str, ...]
    probabilities: Any
    errors: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row per image: path, label, its probability and those of all classes; or path and error."""
        return [
            {"path": str(path), "error": error} if error else {"path": str(path), **self._answer(row)}
            for path, error, row in zip(self.paths, self.errors, self.probabilities, strict=True)
        ]

    def _answer(self, row: Any) -> dict[str, Any]:
        best = int(row.argmax())
        every = {name: float(value) for name, value in zip(self.class_names, row, strict=True)}
        return {"label": self.class_names[best], "probability": float(row[best]), "probabilities": every}


def predict(folder: Path, places: Sequence[Path], model: str = CHAMPION) -> Predictions:
    """What a model says about images.

    Args:
        folder: The workspace, where the model is one of its models.
        places: Images, and folders of images.

    Raises:
        UsageError: nothing goes by the model's name.
        DataError: there is no image, or none that can be read.
    """
    with (
        _opened(folder, places, model) as (paths, predictor, _, title),
        console.progress("predict") as advance,
    ):
        import numpy as np

        from vggflow.prediction.predictor import refuse_unread

        parts, done = [], 0
        for part in predictor.answers(paths):
            parts.append(part)
            done += len(part.errors)
            advance(done, len(paths))
        errors = tuple(error for part in parts for error in part.errors)
        if all(errors):
            refuse_unread(paths, errors)
        probabilities = np.concatenate([part.probabilities for part in parts])
        return Predictions(title, paths, predictor.info.class_names, probabilities, errors)


def predict_to_file(
    folder: Path, places: Sequence[Path], output: Path, model: str = CHAMPION
) -> tuple[int, int]:
    """Writes a row per image, going on where a run before was killed; how many can't be read, and how many there are.

    Raises:
        UsageError: nothing can be written there, or nothing goes by the model's name.
        DataError: there is no image.
    """
    _refuse_output(output)
    # A GPU is faster than a processor by more than Keras takes to start.
    with _opened(folder, places, model, graph=not _has_gpu()) as (paths, predictor, file, title):
        from vggflow.prediction.batch import Batch

        with console.progress("predict") as advance:
            summary = Batch(predictor, title, files.sha256(file), paths, output).run(advance)
    before = f", {summary.done_before:,} of them from a run before" if summary.done_before else ""
    say(f"{output}: {summary.images:,} rows by {title}{before}")
    if summary.unreadable:
        tell(
            f"{summary.unreadable:,} image{'s' * (summary.unreadable > 1)} can't be read: see the column error"
        )
    return summary.unreadable, summary.images


def _has_gpu() -> bool:
    try:
        return bool(nvidia_smi.gpus())
    except VggflowError:  # a driver that fails is `vggflow doctor`'s business
        return False


@contextmanager
def _opened(
    folder: Path, places: Sequence[Path], model: str, *, graph: bool = True
) -> "Iterator[tuple[Sequence[Path], Predictor, Path, str]]":
    """The images, and the model: ready to be asked, its file, what it is called."""
    from vggflow.prediction import find_images
    from vggflow.prediction.onnx_predictor import ready

    paths = find_images.find_images(list(places))
    with named_model.answering(folder, model, graph=graph) as file:
        yield paths, ready(file.path, partial(named_model.backend, folder)), file.path, file.title


def _named(places: Sequence[str]) -> list[Path]:
    """The places that were named, before anything is loaded: a mistyped one is told at once."""
    named = []
    for place in places:
        named += _listed() if place == LIST else [place]
    for name in named:
        if "://" in name:
            raise UsageError(f"{name} is an address: download the image and name the file")
        if not os.path.lexists(name):
            raise DataError(f"{name} does not exist: name image files or folders that hold images")
    return [Path(name) for name in named]


def _listed() -> list[str]:
    # Bytes: a file's name need not be text.
    return [os.fsdecode(line) for line in sys.stdin.buffer.read().splitlines() if line]


def _refuse_output(output: Path) -> None:
    if output.suffix.lower() not in FORMATS or output.is_dir():
        raise UsageError(f"can't write {output}: name a file that ends in {', '.join(FORMATS)}")
    parent = output.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK) or not parent.is_dir():
        raise UsageError(f"can't write {output}: {parent} can't be written to; name another file")


def _show(predictions: Predictions, top: int, *, as_json: bool) -> None:
    rows = predictions.rows()
    if as_json:
        options.print_json(rows)
        return
    tell(predictions.model)
    out.print(table("", *_cells(rows, top)))


def _cells(rows: Sequence[dict[str, Any]], top: int) -> tuple[list[str], list[list[str]]]:
    """Columns and cells: of one class in two columns, of several in one; errors where there are any."""
    names = ["image", "label", "probability"] if top == 1 else ["image", "classes"]
    failed = any("error" in row for row in rows)
    cells = [[row["path"], *_answer(row, top), *([row.get("error", "")] if failed else [])] for row in rows]
    return [*names, *(["error"] if failed else [])], cells


def _answer(row: dict[str, Any], top: int) -> list[str]:
    if "error" in row:
        return [NOTHING] * (2 if top == 1 else 1)
    if top == 1:
        return [row["label"], f"{row['probability']:.3f}"]
    # Sorted stably: of equal ones the first class comes first, as in the label.
    best = sorted(row["probabilities"].items(), key=lambda each: -each[1])[:top]
    return [", ".join(f"{name} {value:.3f}" for name, value in best)]
