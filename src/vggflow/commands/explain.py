"""`vggflow explain`: what a model sees in an image."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from vggflow import files
from vggflow.commands import named_model
from vggflow.console import say
from vggflow.errors import DataError, UsageError
from vggflow.models import start_keras


def command(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="The image.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path(
        "explanation.png"
    ),
    model: Annotated[
        str, typer.Option(help="A .keras file, champion, challenger, or a version.")
    ] = "champion",
) -> None:
    """Draws what a model sees in an image: feature maps of each block and a Grad-CAM heat map."""
    label, probability = explain(context.obj, image, model, output)
    say(f"{output}: {label}, {probability:.1%}")


def explain(folder: Path, image: Path, model: str, destination: Path) -> tuple[str, float]:
    """Writes a picture of what a model sees in an image; returns the predicted class and its probability."""
    from vggflow.data.images import ImageError, open_image
    from vggflow.prediction.find_images import packed

    try:
        # An image in a shard goes by the path that its file would have.
        picture = open_image(image if image.exists() else packed(image).get(image, image))
    except ImageError as error:
        raise DataError(f"{image}: not a readable image ({error}); name another") from error
    with _output(destination) as beside:
        start_keras.start(named_model.backend(folder))
        from vggflow.evaluation import explain as explaining
        from vggflow.models import files as models
        from vggflow.models.full_precision import full_float32
        from vggflow.report import explain_plot

        with named_model.located(folder, model) as file, full_float32():
            found = explaining.explain(*models.load(file.path), picture)
        explain_plot.draw(found).savefig(beside, dpi=100, format="png")
    return found.class_names[found.predicted], float(found.probabilities[found.predicted])


@contextmanager
def _output(destination: Path) -> Iterator[Path]:
    """A file to write to that becomes `destination`; refused before the work where that can't be."""
    if destination.is_dir():
        raise UsageError(f"{destination} is a folder: name the PNG to write")
    # A stack, so that only the opening is in the `try`: errors of the block keep their own words.
    with ExitStack() as stack:
        try:
            beside = stack.enter_context(files.replacing(destination))
        except OSError as error:
            raise UsageError(
                f"can't write {destination} ({error.strerror}): name a PNG in a folder that can be written to"
            ) from error
        yield beside
