"""`vggflow compare`: the same images through two models."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow import artifacts
from vggflow.commands import named_model, options
from vggflow.console import out, progress
from vggflow.models import start_keras
from vggflow.workspace import find

if TYPE_CHECKING:
    from vggflow.evaluation.compare_models import Comparison


def command(
    context: typer.Context,
    first: Annotated[
        str, typer.Argument(metavar="A", help="A .keras file, champion, 3, candidate:3, builder:keras …")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    data: Annotated[Path | None, typer.Option(help="A folder of images; else data/test.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Sends the same images through two models and says how they differ."""
    found = compare(context.obj, first, second, data)
    if as_json:
        options.print_json(found.to_dict())
        return
    from vggflow.evaluation.compare_models import render

    out.print(render(found))


def compare(folder: Path, first: str, second: str, data: Path | None) -> "Comparison":
    """The same images through two models; folders named like a class give the truth."""
    from vggflow.prediction import find_images

    # Before TensorFlow starts, so that a wrong folder is told at once.
    paths = find_images.find_images([data or find(folder).path(artifacts.DATA) / "test"])
    start_keras.start(named_model.backend(folder))
    from vggflow.evaluation import compare_models as comparing
    from vggflow.models import files as models

    # Until both networks are in memory: a file from the registry is removed before the comparison.
    with ExitStack() as stack:
        located = [stack.enter_context(named_model.located(folder, name)) for name in (first, second)]
        loaded = [models.load(file.path) for file in located]
    one, other = (
        comparing.Contestant(name, network.predict_on_batch, info)
        for name, (network, info) in zip((first, second), loaded, strict=True)
    )
    with progress("compare") as advance:
        return comparing.compare(one, other, paths, advance)
