"""`vggflow submit`: a CSV with the champion's probabilities, as competitions take it."""

from pathlib import Path
from typing import Annotated

import typer

from vggflow.commands import options, predict
from vggflow.console import say


def command(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="The images; else data/test/unknown.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file to write.")] = Path(
        "submission.csv"
    ),
    id_column: Annotated[
        str, typer.Option(help="What the column of images is called, where a class is called id.")
    ] = "id",
) -> None:
    """Writes a CSV with the champion's probabilities, as competitions take it."""
    from vggflow.prediction import submission
    from vggflow.prediction.predictor import refuse_unread

    images = folder or options.workspace(context).root / "data" / "test" / "unknown"
    predictions = predict.predict(context.obj, [images])
    # A competition wants a row for each image.
    refuse_unread(predictions.paths, predictions.errors)
    submission.write(predictions.paths, predictions.probabilities, predictions.class_names, output, id_column)
    say(f"{output}: {len(predictions.paths)} rows from {predictions.model}")
