"""Looking at networks: the layer table, two models side by side, what a model sees in an image.

A model is named by a `.keras` file, `champion`, `challenger`, the number of a champion (`3`), of a candidate
(`candidate:3`), or `builder:keras` and `builder:sequential`: the workspace's settings with that builder, untrained.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vggflow import artifacts, engine, settings
from vggflow.console import progress
from vggflow.errors import UsageError
from vggflow.settings import Settings
from vggflow.workspace import Workspace, find, recipe_text

if TYPE_CHECKING:
    from vggflow.models.compare import Comparison
    from vggflow.models.summary import Summary

BUILDER = "builder:"
CANDIDATE = "candidate:"


def summary(folder: Path, recipe: str | None, model: str | None) -> "Summary":
    """The layer table of a recipe, of a model, or of the workspace's settings.

    Raises:
        UsageError: there is no such recipe or model.
    """
    engine.start()
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.summary import summarise

    if model:
        workspace = find(folder) if not model.endswith(".keras") else Workspace(folder.resolve())
        with located(workspace, model) as path:
            return summarise(models.load(path)[0])
    chosen = _settings(folder, recipe)
    classes = 2 if recipe else max(2, len(_classes(find(folder))))
    return summarise(builder.network(chosen.model, classes, chosen.train.seed), chosen.train.phases)


def compare(workspace: Workspace, first: str, second: str, data: Path | None) -> "Comparison":
    """The same images through two models; folders named like a class give the truth."""
    engine.start()
    from vggflow.models import compare as comparing
    from vggflow.prediction import batch
    from vggflow.prediction.predictor import Predictor

    paths = batch.find_images([data or workspace.path(artifacts.DATA) / "test"])

    def ask(name: str) -> comparing.Answers:
        with located(workspace, name) as path, progress(name) as advance:
            predictor = Predictor(path)
            predict = partial(predictor.predict, progress=advance)
            return comparing.ask(name, predictor.info.class_names, predict, paths)

    one, other = ask(first), ask(second)
    truth = [path.parent.name for path in paths]
    return comparing.compare(one, other, truth if set(truth) <= set(one.class_names) else None)


def explain(workspace: Workspace, image: Path, model: str, destination: Path) -> tuple[str, float]:
    """Writes a picture of what a model sees in an image; returns the predicted class and its probability."""
    engine.start()
    from vggflow import files
    from vggflow.data.images import ImageError, open_image
    from vggflow.errors import DataError
    from vggflow.evaluation import explain as explaining
    from vggflow.evaluation import explain_plot
    from vggflow.models import files as models

    try:
        picture = open_image(image)
    except (ImageError, OSError) as error:
        raise DataError(
            f"{image}: not a readable image ({' '.join(str(error).split())}); name another"
        ) from error
    with located(workspace, model) as path:
        found = explaining.explain(*models.load(path), picture)
    with files.replacing(destination) as beside:
        explain_plot.draw(found).savefig(beside, dpi=100, format="png")
    return found.class_names[found.predicted], float(found.probabilities[found.predicted])


@contextmanager
def located(workspace: Workspace, name: str) -> Iterator[Path]:
    """The `.keras` file of a model for the time of the block.

    Raises:
        UsageError: nothing goes by this name.
    """
    if name.startswith(BUILDER):
        with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
            yield _built(workspace, name.removeprefix(BUILDER), Path(folder) / "model.keras")
    elif Path(name).is_file():
        yield Path(name)
    else:
        with _registered(workspace, name) as path:
            yield path


@contextmanager
def _registered(workspace: Workspace, name: str) -> Iterator[Path]:
    from vggflow.tracking import connection, registry

    number = name.removeprefix(CANDIDATE)
    if name not in (registry.CHAMPION, registry.CHALLENGER) and not number.isdigit():
        raise UsageError(
            f"no model {name!r}: name a .keras file, champion, challenger, a version such as 3 or candidate:3, "
            "builder:keras or builder:sequential"
        )
    names = workspace.settings().registry
    of_candidates = name.startswith(CANDIDATE) or name == registry.CHALLENGER
    client = connection.connect(workspace)
    model = names.candidates if of_candidates else names.name
    version = registry.version_of(client, model, int(number) if number.isdigit() else None, name)
    with registry.model_file(version) as path:
        yield path


def _built(workspace: Workspace, builder_name: str, path: Path) -> Path:
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.files import ModelInfo

    content = yaml.safe_load(workspace.path(artifacts.PARAMS).read_text("utf-8"))
    content["model"]["builder"] = builder_name
    chosen = settings.parse(content)
    classes = _classes(workspace) or ("first", "second")
    network = builder.build(chosen.model, classes, workspace.path(artifacts.WEIGHTS), chosen.train.seed)
    model = chosen.model
    models.save(network, ModelInfo(classes, model.image_size_px, model.resize, model.preprocessing), path)
    return path


def _classes(workspace: Workspace) -> tuple[str, ...]:
    train = workspace.path(artifacts.DATA) / "train"
    return tuple(sorted(entry.name for entry in train.iterdir() if entry.is_dir())) if train.is_dir() else ()


def _settings(folder: Path, recipe: str | None) -> Settings:
    return settings.parse(yaml.safe_load(recipe_text(recipe)), recipe) if recipe else find(folder).settings()
