"""`vggflow export`: a model in another form, held against the Keras model before it is written."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts, console, files
from vggflow.commands import named_model
from vggflow.console import say, tell
from vggflow.data.places import Place
from vggflow.errors import Refused, UsageError
from vggflow.models import start_keras
from vggflow.workspace import find

if TYPE_CHECKING:
    from vggflow.evaluation.compare_models import Comparison
    from vggflow.prediction.export_formats import Pixels
    from vggflow.prediction.predictor import Predictor

# Over which an INT8 network measures its ranges.
CALIBRATION_IMAGES = 300
REPORT = ".report.json"
# Of files; the other forms are folders.
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}


class FormatName(StrEnum):
    """The forms."""

    onnx = "onnx"
    litert = "litert"
    openvino = "openvino"
    savedmodel = "savedmodel"


def command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="champion, challenger, a version, or a .keras file.")],
    form: Annotated[FormatName, typer.Option("--format", help="For which runtime.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file or folder to write.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="In 8 bits: smaller and faster, if it is good enough.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Images to compare on; else data/test of this workspace.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Images for the ranges of INT8; else data/valid of this workspace.")
    ] = None,
) -> None:
    """Writes a model for another runtime, after it has answered the test images as Keras does."""
    path, found = export(
        context.obj, model, form.value, output, int8=int8, data=data, calibration=calibration
    )
    from vggflow.evaluation.export_check import times_as_fast

    accuracy = ", accuracy {1:.1%} (Keras {0:.1%})".format(*found.accuracy) if found.accuracy else ""
    say(
        f"{path}: {_size(path) / 1e6:.1f} MB; of {found.images} images {found.labels_differ} are answered otherwise, "
        f"largest difference {found.largest_difference:.1g}{accuracy}, {times_as_fast(found):.1f} times as fast"
    )


def export(
    folder: Path,
    model: str,
    form: str,
    output: Path | None = None,
    *,
    int8: bool = False,
    data: Path | None = None,
    calibration: Path | None = None,
) -> "tuple[Path, Comparison]":
    """Writes it, with a report beside; returns where, and how it compares.

    Raises:
        UsageError: it can't be written there, or the form knows no INT8.
        DataError: there are no images to compare on.
        Refused: it does not answer as the Keras model does; nothing is written.
    """
    if model.startswith(named_model.BUILDER):
        raise UsageError(f"{model} is not trained: name champion, a version, or a .keras file")
    # Before TensorFlow starts, so that a mistyped folder is told at once.
    images = _images(folder, data, "test")
    ranges = _spread(_images(folder, calibration, "valid")) if int8 else []
    with named_model.located(folder, model) as file:
        if file.path.suffix.lower() == ".onnx":
            raise UsageError(f"{model} is an exported graph: name the .keras file that it was made of")
        target = output or Path(_name(file, form, int8=int8))
        _refuse_target(target, SUFFIXES.get(form, ""))
        # TensorFlow writes all of the forms, and asks the network that they are compared with.
        os.environ[start_keras.BACKEND] = "tensorflow"
        start_keras.start("tensorflow")
        tell(f"exporting {file.title} as {form}{' in 8 bits' if int8 else ''}")
        return target, _write(file, form, target, images, ranges)


def _write(
    file: named_model.ModelFile,
    form: str,
    target: Path,
    images: Sequence[Path | Place],
    ranges: Sequence[Path | Place],
) -> "Comparison":
    from vggflow.evaluation import export_check
    from vggflow.evaluation.compare_models import Contestant, compare
    from vggflow.prediction.export_formats import FORMATS, Exported
    from vggflow.prediction.predictor import Predictor

    predictor = Predictor(file.path)
    predictor.answer_once()  # Keras exports none that has not answered yet
    size = predictor.info.image_size_px
    calibration = _pixels(predictor, ranges) if ranges else None
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.absolute().parent) as beside:
        made = Path(beside) / target.name
        FORMATS[form].write(Exported(predictor.network, predictor.info, calibration), made)
        with console.progress("compare") as advance:
            keras = Contestant("keras", predictor.network.predict_on_batch, predictor.info)
            exported = Contestant(form, FORMATS[form].load(made), predictor.info)
            found = compare(keras, exported, images, advance)
        if refusal := export_check.refusal(found, int8=bool(ranges)):
            raise Refused(f"{file.title} as {form}{' in 8 bits' if ranges else ''} is not written: {refusal}")
        report = {
            "model": file.title,
            "sha256": files.sha256(file.path),
            "format": form,
            "int8": bool(ranges),
        }
        report["input"] = f"raw RGB pixels 0 to 255, float32, (N, {size}, {size}, 3)"
        _replace(made, target)
        files.write_json(_report(target), report | predictor.info.to_dict() | export_check.report(found))
    return found


def _pixels(predictor: "Predictor", paths: Sequence[Path | Place]) -> "Pixels":
    """As the network takes them, shape (N, S, S, 3)."""
    import numpy as np

    from vggflow.prediction.predictor import refuse_unread

    decoded = [predictor.decode(path) for path in paths]
    refuse_unread(paths, [each.error for each in decoded])
    return np.stack([each.pixels for each in decoded if each.pixels is not None])


def _images(folder: Path, given: Path | None, split: str) -> list[Path | Place]:
    from vggflow.prediction import find_images

    return find_images.find_images([given or find(folder).path(artifacts.DATA) / split])


def _spread(images: list[Path | Place]) -> list[Path | Place]:
    """Some of them, of every class: they are sorted by it."""
    count = min(CALIBRATION_IMAGES, len(images))
    return [images[number * len(images) // count] for number in range(count)]


def _name(file: named_model.ModelFile, form: str, *, int8: bool) -> str:
    name = file.path.stem if file.number is None else f"{file.name}-{file.number}"
    return f"{name}{'-int8' if int8 else ''}{SUFFIXES.get(form, f'-{form}')}"


def _refuse_target(target: Path, suffix: str) -> None:
    if suffix and target.suffix.lower() != suffix:
        raise UsageError(f"can't write {target}: name a file that ends in {suffix}")
    if suffix and target.is_dir():
        raise UsageError(f"{target} is a folder: name a file that ends in {suffix}")
    if not suffix and target.exists() and not _is_export(target):
        raise UsageError(f"{target} is there and no export of before: name another folder")
    parent = target.absolute().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"can't write {target}: {parent} is no folder that can be written to; name another")


def _is_export(folder: Path) -> bool:
    """By its report: what somebody else put there is not replaced."""
    return folder.is_dir() and _report(folder).is_file()


def _report(target: Path) -> Path:
    return target.with_name(target.name + REPORT)


def _replace(made: Path, target: Path) -> None:
    """The new one is in the place of the one before; a folder has no single step for that."""
    if target.is_dir():
        before = made.with_name("before")
        target.rename(before)
        try:
            made.rename(target)
        except BaseException:  # Ctrl-C too: the folder that it lies in now goes away
            before.rename(target)
            raise
        shutil.rmtree(before)
    else:
        made.replace(target)


def _size(path: Path) -> int:
    every = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in every if each.is_file())
