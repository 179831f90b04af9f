"""`vggflow predict`: what the champion, or another version, says about images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vggflow import console
from vggflow.commands import options
from vggflow.console import out, table, tell
from vggflow.models import start_keras
from vggflow.workspace import Workspace


def command(
    context: typer.Context,
    places: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of images.")],
    number: Annotated[
        int | None, typer.Option("--version", help="Another version than the champion.")
    ] = None,
    candidate: options.Candidate = False,
    as_json: options.AsJson = False,
) -> None:
    """Says what the champion sees in images."""
    predictions = predict(options.workspace(context), places, number, candidate)
    rows = predictions.rows()
    if as_json:
        options.print_json(rows)
        return
    tell(predictions.model)
    cells = [[str(row["path"]), str(row["label"]), f"{row['probability']:.3f}"] for row in rows]
    out.print(table("", ["image", "label", "probability"], cells))


@dataclass(frozen=True)
class Predictions:
    """The probabilities (N, K) of the classes for N images, and the model that gave them."""

    model: str
    paths: Sequence[Path]
    class_names: tuple[str, ...]
    probabilities: Any

    def rows(self) -> list[dict[str, str | float]]:
        """A row per image: path, label and the label's probability."""
        best = self.probabilities.argmax(axis=1)
        return [
            {"path": str(path), "label": self.class_names[column], "probability": float(row[column])}
            for path, column, row in zip(self.paths, best, self.probabilities, strict=True)
        ]


def predict(
    workspace: Workspace, places: Sequence[Path], number: int | None = None, candidate: bool = False
) -> "Predictions":
    """What the champion (or another version) says about images.

    Raises:
        UsageError: there is no such version.
        DataError: there is no image, or one can't be read.
    """
    start_keras.start(workspace.settings().train.backend)
    from vggflow.prediction import find_images
    from vggflow.prediction.predictor import Predictor
    from vggflow.tracking import connection
    from vggflow.tracking.registry import model_versions

    registry = connection.connect(workspace)
    version = model_versions.chosen(registry, number, candidate=candidate)
    paths = find_images.find_images(list(places))
    with model_versions.model_file(version) as model, console.progress("predict") as advance:
        predictor = Predictor(model)
        probabilities = predictor.predict(paths, progress=advance)
        return Predictions(
            f"{version.name} version {version.number}", paths, predictor.info.class_names, probabilities
        )
