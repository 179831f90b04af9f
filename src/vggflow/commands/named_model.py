"""The model that a person names: a file, the champion, a version, a builder.

A model is named by a `.keras` file, `champion`, `challenger`, the number of a champion (`3`), of a candidate
(`candidate:3`), or `builder:keras` and `builder:sequential`: the workspace's settings with that builder, untrained.
Files need no workspace, everything else does.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vggflow import artifacts, settings
from vggflow.errors import DataError, UsageError
from vggflow.settings import ModelSettings, Phase, Settings
from vggflow.tracking.registry import champion_alias
from vggflow.workspace import Workspace, find, recipe_text

if TYPE_CHECKING:
    from vggflow.tracking.registry.model_versions import Version

BUILDER = "builder:"
CANDIDATE = "candidate:"
BUILDERS = ("keras", "sequential")


@dataclass(frozen=True)
class ModelFile:
    """The file of a model.

    Attributes:
        path: A `.keras` or `.onnx` file.
        name: Of the registered model, or what the user wrote.
        number: Of its version; None where it is none.
    """

    path: Path
    name: str
    number: int | None = None

    @property
    def title(self) -> str:
        """What it is called: `pets version 3`."""
        return champion_alias.title(self.name, self.number)


@contextmanager
def located(folder: Path, name: str) -> Iterator[ModelFile]:
    """The `.keras` file of a model for the time of the block.

    Raises:
        UsageError: nothing goes by this name.
    """
    if name.startswith(BUILDER):
        with tempfile.TemporaryDirectory(prefix="vggflow-") as temporary:
            built = _built(find(folder), name.removeprefix(BUILDER), Path(temporary) / "model.keras")
            yield ModelFile(built, name)
    elif _is_file(name):
        yield ModelFile(Path(name), name)
    else:
        version = registered(folder, name)
        from vggflow.tracking.registry import model_versions

        with model_versions.model_file(version) as path:
            yield ModelFile(path, version.name, version.number)


@contextmanager
def answering(folder: Path, name: str, *, graph: bool = True) -> Iterator[ModelFile]:
    """The same, of what answers soonest: a version's exported graph, where it has one and one is wanted.

    The champion's is kept in the workspace, and while the registry is away that one answers.

    Raises:
        UsageError: nothing goes by this name.
    """
    from vggflow.commands import champion_copy

    is_registered = not name.startswith(BUILDER) and not _is_file(name)
    if not graph or not is_registered:
        with located(folder, name) as found:
            yield found
        return
    workspace = find(folder)
    of_champion = name == champion_alias.CHAMPION
    if of_champion and (copy := champion_copy.current(workspace, workspace.settings().registry.name)):
        yield ModelFile(copy.path(workspace), copy.name, copy.number)
        return
    version = registered(folder, name)
    from vggflow.tracking.registry import model_versions

    with ExitStack() as held:
        path = None
        if of_champion:
            path = held.enter_context(champion_copy.fetched(workspace, version))
        elif champion_alias.GRAPH_SHA256 in version.tags:
            path = held.enter_context(model_versions.graph_file(version))
        path = path or held.enter_context(model_versions.model_file(version))
        yield ModelFile(path, version.name, version.number)


def pinned(name: str, file: ModelFile) -> str:
    """A name of the same model later on: by then `champion` may be another version."""
    if file.number is None:
        return name
    of_candidates = name.startswith(CANDIDATE) or name == "challenger"
    return f"{CANDIDATE}{file.number}" if of_candidates else str(file.number)


def backend(folder: Path) -> str | None:
    """What the workspace at `folder` computes with; None where there is none: files need no workspace."""
    try:
        workspace = find(folder)
    except UsageError:
        return None
    return workspace.settings().train.backend


def _is_file(name: str) -> bool:
    # By its ending too: where a file is missing, the error is to speak of a file.
    return name.endswith((".keras", ".onnx")) or Path(name).is_file()


def registered(folder: Path, name: str) -> "Version":
    """The version that goes by a name such as `champion` or `candidate:3`.

    Raises:
        UsageError: there is none.
    """
    from vggflow.tracking import connection
    from vggflow.tracking.registry import model_versions

    number = name.removeprefix(CANDIDATE)
    # "0" to "9" only: isdigit() also takes digits such as "²", which int() refuses.
    is_number = number.isascii() and number.isdigit()
    if name not in (champion_alias.CHAMPION, model_versions.CHALLENGER) and not is_number:
        raise UsageError(
            f"no model {name!r}: name a .keras or .onnx file, champion, challenger, a version such as 3 or "
            "candidate:3, builder:keras or builder:sequential"
        )
    of_candidates = name.startswith(CANDIDATE) or name == model_versions.CHALLENGER
    registry = connection.connect(find(folder))
    model = registry.names.candidates if of_candidates else registry.names.name
    return model_versions.version_of(registry.client, model, int(number) if is_number else None, name)


def phases(folder: Path, name: str) -> tuple[Phase, ...]:
    """How a model was trained: from the settings that the registry keeps with it."""
    if name.startswith(BUILDER):
        return find(folder).settings().train.phases
    if _is_file(name):
        return ()
    version = registered(folder, name)
    from vggflow.tracking.registry import model_versions

    with tempfile.TemporaryDirectory(prefix="vggflow-") as temporary:
        model_versions.download_lineage(version, Path(temporary))
        return settings.load(Path(temporary) / artifacts.PARAMS).train.phases


def _built(workspace: Workspace, builder_name: str, path: Path) -> Path:
    from vggflow.models import builder
    from vggflow.models import files as models
    from vggflow.models.files import ModelInfo

    chosen = workspace.settings()
    model = _with_builder(chosen.model, builder_name)
    # A network needs classes, and there may be no images yet.
    classes = classes_of(workspace) or ("first", "second")
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


def classes_of(workspace: Workspace) -> tuple[str, ...]:
    """The classes of the training images; none where there are no images yet."""
    from vggflow.data import layout

    try:
        folders = layout.class_folders(workspace.path(artifacts.DATA))
    except DataError:
        return ()
    return tuple(folder.class_name for folder in folders if folder.split == "train")


def settings_of(folder: Path, recipe: str | None) -> Settings:
    """The settings of a recipe, else of the workspace at `folder`."""
    return settings.parse(yaml.safe_load(recipe_text(recipe)), recipe) if recipe else find(folder).settings()
