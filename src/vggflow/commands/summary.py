"""`vggflow summary`: the network's layers, shapes, counts, and what learns in each phase."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggflow.commands import named_model, options, training_time
from vggflow.console import out
from vggflow.errors import UsageError
from vggflow.models import start_keras
from vggflow.workspace import find

if TYPE_CHECKING:
    from vggflow.models.network_summary import Summary


def command(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Option(help="A recipe; else this workspace's settings.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A .keras file, champion, challenger, or a version.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Shows the network: layers, shapes, counts, and what learns in each phase."""
    found = summary(context.obj, recipe, model)
    expected = None if recipe or model else training_time.expected(find(context.obj))
    if as_json:
        options.print_json(found.to_dict() | {"takes": expected.to_dict() if expected else None})
        return
    from vggflow.models.network_summary import render

    out.print(render(found))
    training_time.show(expected, "a training takes")


def summary(folder: Path, recipe: str | None, model: str | None) -> "Summary":
    """The layer table of a recipe, of a model, or of the settings of the workspace at `folder`.

    A registered model is shown with the phases of the settings that it was trained with; a file has none.

    Raises:
        UsageError: there is no such recipe or model, or both were given.
    """
    if recipe and model:
        raise UsageError(f"--recipe {recipe} and --model {model} are two networks: give one of them")
    start_keras.start(named_model.backend(folder))
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.network_summary import summarise

    if model:
        with named_model.located(folder, model) as file:
            return summarise(models.load(file.path)[0], named_model.phases(folder, model))
    chosen = named_model.settings_of(folder, recipe)
    classes = 2 if recipe else max(2, len(named_model.classes_of(find(folder))))
    return summarise(builder.network(chosen.model, classes, chosen.train.seed), chosen.train.phases)
