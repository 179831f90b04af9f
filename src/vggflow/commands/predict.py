"""`vggflow predict`: what a model says about images: a few of them in a table, any number of them in a file."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggflow import artifacts, console, files
from vggflow.commands import keep_answers, named_model, options
from vggflow.console import out, say, table, tell
from vggflow.data.places import Place, path_of
from vggflow.errors import DataError, Refused, UsageError, VggflowError
from vggflow.processes import nvidia_smi

if TYPE_CHECKING:
    from vggflow.prediction.predictor import Predictor

CHAMPION = "champion"
# Stands for a list of paths on standard input, one a line.
LIST = "-"
FORMATS = (".parquet", ".csv", ".jsonl")
NOTHING = "–"
# Heat maps lie in memory before they are written, 80 KB each; a process of its own makes so many.
MAPS_AT_ONCE = 500


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
    explain: Annotated[
        Path | None, typer.Option(help="Write into this folder where the model looked in each image.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 where an image can't be read.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="With -o: keep for `drift` what the answers were like.")
    ] = True,
    as_json: options.AsJson = False,
) -> None:
    """Says what a model, the champion unless told otherwise, sees in images."""
    if output is not None and (as_json or top > 1 or explain):
        raise UsageError(
            "--json, --top and --explain are for what is printed, a file has all probabilities: leave them out"
        )
    _refuse_explain(explain, model)
    named = _named(places)
    if output is not None:
        unreadable, images = predict_to_file(context.obj, named, output, model, keep=keep)
    else:
        predictions = predict(context.obj, named, model, explain)
        _show(predictions, top, as_json=as_json)
        unreadable, images = sum(map(bool, predictions.errors)), len(predictions.paths)
    if strict and unreadable:
        raise Refused(f"{unreadable} of {images} images can't be read: leave them out or replace them")


@dataclass(frozen=True)
class Predictions:
    """What a model says about N images.

    Attributes:
        model: What it is called.
        paths: Of the images; those in shards have the path that a file would have.
        images: Where they are.
        probabilities: Of the K classes, shape (N, K); NaN in rows of images that can't be read.
        errors: Why, for these; empty for the others.
        heat_maps: Image to the picture of where the model looked, where that was asked for.
    """

    model: str
    paths: Sequence[Path]
    images: Sequence[Path | Place]
    class_names: tuple[str, ...]
    probabilities: Any
    errors: tuple[str, ...]
    heat_maps: Mapping[Path, Path] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """A row per image: path, label, its probability and those of all classes; or path and error."""
        from vggflow.prediction import answer

        return [
            {"path": str(path), "error": error}
            if error
            else {"path": str(path)} | answer.told(self.class_names, row) | self._heat(path)
            for path, error, row in zip(self.paths, self.errors, self.probabilities, strict=True)
        ]

    def _heat(self, path: Path) -> dict[str, Any]:
        return {"heat_map": str(self.heat_maps[path])} if path in self.heat_maps else {}


def predict(
    folder: Path, places: Sequence[Path], model: str = CHAMPION, explain: Path | None = None
) -> Predictions:
    """What a model says about images.

    Args:
        folder: The workspace, where the model is one of its models.
        places: Images, and folders of images.
        model: Which one.
        explain: The folder to write heat maps to.

    Raises:
        UsageError: nothing goes by the model's name.
        DataError: there is no image, or none that can be read.
    """
    with _opened(folder, places, model) as (paths, predictor, file):
        from vggflow.prediction import spread_answers
        from vggflow.prediction.predictor import BATCH_SIZE, joined, refuse_unread

        parts, done = [], 0
        with (
            console.progress("predict") as advance,
            closing(
                spread_answers.answers(predictor, paths, BATCH_SIZE, folder / artifacts.DATA)
            ) as answered,
        ):
            for part in answered:
                # Features are for what is kept of answers in production: 6 KB an image.
                parts.append(replace(part, features=None))
                done += len(part.errors)
                advance(done, len(paths))
        answers = joined(parts)
        if all(answers.errors):
            refuse_unread(paths, answers.errors)
        names = predictor.info.class_names
        found = Predictions(
            file.title, list(map(path_of, paths)), paths, names, answers.probabilities, answers.errors
        )
        if explain is None:
            return found
        return replace(found, heat_maps=_heat_maps(folder, named_model.pinned(model, file), found, explain))


def _heat_maps(folder: Path, model: str, found: Predictions, destination: Path) -> dict[Path, Path]:
    """Where the model looked for the answers that it gave: a JPEG for each image that could be read."""
    from vggflow.evaluation.heat import heat_maps_in_process
    from vggflow.report import pictures

    told = zip(found.images, found.rows(), strict=True)
    answered = [(image, row["label"]) for image, row in told if "label" in row]
    made: dict[Path, Path] = {}
    with named_model.located(folder, model) as file, console.progress("explain") as advance:
        look = heat_maps_in_process(file.path, named_model.backend(folder))
        for first in range(0, len(answered), MAPS_AT_ONCE):
            asked = answered[first : first + MAPS_AT_ONCE]
            for number, ((image, _), seen) in enumerate(
                zip(asked, look(asked), strict=True), start=first + 1
            ):
                # Numbered: images of several folders may have one name.
                path = path_of(image)
                made[path] = destination / f"{number:04}-{path.stem}.jpg"
                with files.replacing(made[path]) as beside:
                    pictures.below_heat(seen).save(beside, "JPEG", quality=90)
            advance(len(made), len(answered))
    return made


def predict_to_file(
    folder: Path, places: Sequence[Path], output: Path, model: str = CHAMPION, *, keep: bool = False
) -> tuple[int, int]:
    """Writes a row per image, going on where a run before was killed; how many can't be read, and how many there are.

    Raises:
        UsageError: nothing can be written there, or nothing goes by the model's name.
        DataError: there is no image.
    """
    _refuse_output(output)
    # A GPU is faster than a processor by more than Keras takes to start.
    with _opened(folder, places, model, graph=not _has_gpu()) as (paths, predictor, file):
        from vggflow.prediction.batch import Batch

        with console.progress("predict") as advance:
            summary = Batch(
                predictor, file.title, files.sha256(file.path), paths, output, folder / artifacts.DATA
            ).run(advance)
    before = f", {summary.done_before:,} of them from a run before" if summary.done_before else ""
    say(f"{output}: {summary.images:,} rows by {file.title}{before}")
    if summary.unreadable:
        tell(
            f"{summary.unreadable:,} image{'s' * (summary.unreadable > 1)} can't be read: see the column error"
        )
    if keep and summary.observations and keep_answers.is_kept(file):
        try:
            keep_answers.keep(folder, file.title, summary.observations)
        except (VggflowError, OSError) as error:  # the rows are there, and are what was asked for
            tell(f"not kept for `vggflow drift`: {error}")
    return summary.unreadable, summary.images


def _has_gpu() -> bool:
    try:
        return bool(nvidia_smi.gpus())
    except VggflowError:  # a driver that fails is `vggflow doctor`'s business
        return False


@contextmanager
def _opened(
    folder: Path, places: Sequence[Path], model: str, *, graph: bool = True
) -> "Iterator[tuple[Sequence[Path | Place], Predictor, named_model.ModelFile]]":
    """The images, and the model: ready to be asked, and its file."""
    from vggflow.prediction import find_images
    from vggflow.prediction.onnx_predictor import ready

    paths = find_images.find_images(list(places))
    with named_model.answering(folder, model, graph=graph) as file:
        yield paths, ready(file.path, partial(named_model.backend, folder)), file


def _named(places: Sequence[str]) -> list[Path]:
    """The places that were named, before anything is loaded: a mistyped one is told at once."""
    from vggflow.prediction import find_images

    named = []
    for place in places:
        named += _listed() if place == LIST else [place]
    for name in named:
        if "://" in name:
            raise UsageError(f"{name} is an address: download the image and name the file")
        if not find_images.exists(Path(name)):
            raise DataError(f"{name} does not exist: name image files or folders that hold images")
    return [Path(name) for name in named]


def _listed() -> list[str]:
    # Bytes: a file's name need not be text.
    return [os.fsdecode(line) for line in sys.stdin.buffer.read().splitlines() if line]


def _refuse_explain(destination: Path | None, model: str) -> None:
    if destination is None:
        return
    if destination.exists() and not destination.is_dir():
        raise UsageError(f"can't write heat maps to {destination}, which is a file: name a folder")
    if model.lower().endswith(".onnx"):
        raise UsageError(f"no heat maps of {model}: an exported graph has no gradients, name the .keras file")


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
    if predictions.heat_maps:
        tell(f"where it looked: {next(iter(predictions.heat_maps.values())).parent}")


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
