"""Looking at networks: the layer table, two models side by side, what a model sees in an image.

A model is named by a `.keras` file, `champion`, `challenger`, the number of a champion (`3`), of a candidate
(`candidate:3`), or `builder:keras` and `builder:sequential`: the workspace's settings with that builder, untrained.
Files need no workspace, everything else does.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vggflow import artifacts, engine, files, settings
from vggflow.console import progress
from vggflow.errors import DataError, UsageError
from vggflow.settings import ModelSettings, Phase, Settings
from vggflow.workspace import Workspace, find, recipe_text

if TYPE_CHECKING:
    from vggflow.models.compare import Comparison
    from vggflow.models.summary import Summary
    from vggflow.tracking.registry import Version

BUILDER = "builder:"
CANDIDATE = "candidate:"
BUILDERS = ("keras", "sequential")


def summary(folder: Path, recipe: str | None, model: str | None) -> "Summary":
    """The layer table of a recipe, of a model, or of the settings of the workspace at `folder`.

    A registered model is shown with the phases of the settings that it was trained with; a file has none.

    Raises:
        UsageError: there is no such recipe or model, or both were given.
    """
    if recipe and model:
        raise UsageError(f"--recipe {recipe} and --model {model} are two networks: give one of them")
    engine.start()
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.summary import summarise

    if model:
        with located(folder, model) as path:
            return summarise(models.load(path)[0], _phases(folder, model))
    chosen = _settings(folder, recipe)
    classes = 2 if recipe else max(2, len(_classes(find(folder))))
    return summarise(builder.network(chosen.model, classes, chosen.train.seed), chosen.train.phases)


def compare(folder: Path, first: str, second: str, data: Path | None) -> "Comparison":
    """The same images through two models; folders named like a class give the truth."""
    from vggflow.prediction import batch

    paths = batch.find_images([data or find(folder).path(artifacts.DATA) / "test"])
    engine.start()
    from vggflow.models import compare as comparing
    from vggflow.models import files as models

    with ExitStack() as stack:
        located_paths = [stack.enter_context(located(folder, name)) for name in (first, second)]
        one, other = (
            comparing.Contestant(name, *models.load(path))
            for name, path in zip((first, second), located_paths, strict=True)
        )
    with progress("compare") as advance:
        return comparing.compare(one, other, paths, advance)


def explain(folder: Path, image: Path, model: str, destination: Path) -> tuple[str, float]:
    """Writes a picture of what a model sees in an image; returns the predicted class and its probability."""
    from vggflow.data.images import ImageError, open_image

    try:
        picture = open_image(image)
    except ImageError as error:
        raise DataError(f"{image}: not a readable image ({error}); name another") from error
    with _output(destination) as beside:
        engine.start()
        from vggflow.evaluation import explain as explaining
        from vggflow.evaluation import explain_plot
        from vggflow.models import files as models
        from vggflow.models.full_precision import full_float32

        with located(folder, model) as path, full_float32():
            found = explaining.explain(*models.load(path), picture)
        explain_plot.draw(found).savefig(beside, dpi=100, format="png")
    return found.class_names[found.predicted], float(found.probabilities[found.predicted])


@contextmanager
def _output(destination: Path) -> Iterator[Path]:
    """A file to write to that becomes `destination`; refused before the work where that can't be."""
    if destination.is_dir():
        raise UsageError(f"{destination} is a folder: name the PNG to write")
    with ExitStack() as stack:
        try:
            beside = stack.enter_context(files.replacing(destination))
        except OSError as error:
            raise UsageError(
                f"can't write {destination} ({error.strerror}): name a PNG in a folder that can be written to"
            ) from error
        yield beside


@contextmanager
def located(folder: Path, name: str) -> Iterator[Path]:
    """The `.keras` file of a model for the time of the block.

    Raises:
        UsageError: nothing goes by this name.
    """
    if name.startswith(BUILDER):
        with tempfile.TemporaryDirectory(prefix="vggflow-") as temporary:
            yield _built(find(folder), name.removeprefix(BUILDER), Path(temporary) / "model.keras")
    elif _is_file(name):
        yield Path(name)
    else:
        version = _registered(folder, name)
        from vggflow.tracking import registry

        with registry.model_file(version) as path:
            yield path


def _is_file(name: str) -> bool:
    return name.endswith(".keras") or Path(name).is_file()


def _registered(folder: Path, name: str) -> "Version":
    from vggflow.tracking import connection, registry

    number = name.removeprefix(CANDIDATE)
    # "0" to "9" only: isdigit() also takes digits such as "²", which int() refuses.
    is_number = number.isascii() and number.isdigit()
    if name not in (registry.CHAMPION, registry.CHALLENGER) and not is_number:
        raise UsageError(
            f"no model {name!r}: name a .keras file, champion, challenger, a version such as 3 or candidate:3, "
            "builder:keras or builder:sequential"
        )
    workspace = find(folder)
    names = workspace.settings().registry
    of_candidates = name.startswith(CANDIDATE) or name == registry.CHALLENGER
    client = connection.connect(workspace)
    model = names.candidates if of_candidates else names.name
    return registry.version_of(client, model, int(number) if is_number else None, name)


def _phases(folder: Path, name: str) -> tuple[Phase, ...]:
    """How a model was trained: from the settings that the registry keeps with it."""
    if name.startswith(BUILDER):
        return find(folder).settings().train.phases
    if _is_file(name):
        return ()
    version = _registered(folder, name)
    from vggflow.tracking import registry

    with tempfile.TemporaryDirectory(prefix="vggflow-") as temporary:
        registry.download_lineage(version, Path(temporary))
        return settings.load(Path(temporary) / artifacts.PARAMS).train.phases


def _built(workspace: Workspace, builder_name: str, path: Path) -> Path:
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.files import ModelInfo

    chosen = workspace.settings()
    model = _with_builder(chosen.model, builder_name)
    classes = _classes(workspace) or ("first", "second")
    network = builder.build(model, classes, workspace.path(artifacts.WEIGHTS), chosen.train.seed)
    models.save(network, ModelInfo(classes, model.image_size_px, model.resize, model.preprocessing), path)
    return path


def _with_builder(model: ModelSettings, name: str) -> ModelSettings:
    if name not in BUILDERS:
        raise UsageError(f"no builder {name!r}: choose {' or '.join(BUILDER + known for known in BUILDERS)}")
    if name == "keras" and model.width != 1.0:
        raise UsageError(
            f"builder:keras has VGG16's own width, model.width is {model.width}: compare with width 1.0"
        )
    # Both ways of padding compute the same, and keras.applications has one of them.
    padding = "same" if name == "keras" else model.padding
    return ModelSettings(**{**model.model_dump(), "builder": name, "padding": padding})


def _classes(workspace: Workspace) -> tuple[str, ...]:
    """The classes of the training images; none where there are no images yet."""
    from vggflow.data import layout

    try:
        folders = layout.class_folders(workspace.path(artifacts.DATA))
    except DataError:
        return ()
    return tuple(folder.class_name for folder in folders if folder.split == "train")


def _settings(folder: Path, recipe: str | None) -> Settings:
    return settings.parse(yaml.safe_load(recipe_text(recipe)), recipe) if recipe else find(folder).settings()
