"""Versions in MLflow's model registry: candidates, and the models that were promoted."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from vggflow import artifacts, files, packages
from vggflow.data import manifest as manifests
from vggflow.errors import EvidenceLost, UnfitModel, UsageError
from vggflow.models.files import read_info
from vggflow.tracking import limits
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.reachable import waiting_for_files
from vggflow.tracking.registry import champion_alias, served_code
from vggflow.tracking.registry.champion_alias import CHAMPION, GRAPH_SHA256
from vggflow.tracking.registry.lineage import FOLDER as LINEAGE
from vggflow.tracking.registry.registry import Registry

CHALLENGER = "challenger"
KEY = "vggflow.key"
# Where in its run a version's evidence lies: several versions may share a run, their evidence they don't.
EVIDENCE = "vggflow.evidence"
# MLflow holds a page of versions in memory, with all their tags.
PAGE = 1_000
NAMED_AT_MOST = 10
# They stand in the address that a server is asked by.
RUNS_AT_ONCE = 50
MODEL_FILE = "data/model.keras"
# Among its evidence: the exported graph, which answers without Keras.
GRAPH = "exported/model.onnx"


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created_ms: int
    run_id: str
    model_id: str
    description: str = ""

    @property
    def title(self) -> str:
        """What people read: `pets version 3`."""
        return champion_alias.title(self.name, self.number)

    @property
    def uri(self) -> str:
        """How MLflow addresses it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def accuracy(self) -> float | None:
        """Its accuracy when it was evaluated, 0 to 1."""
        value = self.tags.get("accuracy")
        return float(value) if value else None


def versions(client: MlflowClient, name: str) -> list[Version]:
    """All versions of a registered model, oldest first; none where there is no such model.

    Aliases are read after the versions, so they may be newer.
    """
    found = list(_entries(client, name))
    aliases = _aliases(client, name)
    return [_version(entry, aliases.get(int(entry.version), ())) for entry in found]


def newest(client: MlflowClient, name: str, most: int) -> list[Version]:
    """The newest versions of a registered model, newest first; none where there is no such model."""
    with mlflow_errors_as_one_line():
        order = ["version_number DESC"]
        found = client.search_model_versions(f"name = '{name}'", max_results=most, order_by=order)
    aliases = _aliases(client, name)
    return [_version(entry, aliases.get(int(entry.version), ())) for entry in found]


def chosen(registry: Registry, number: int | None, *, candidate: bool = False) -> Version:
    """The version that a person means: of the production model, or of the candidates, and where no number is given
    the champion or the challenger.

    Raises:
        UsageError: there is none.
    """
    names = registry.names
    model, alias = (names.candidates, CHALLENGER) if candidate else (names.name, CHAMPION)
    return version_of(registry.client, model, number, alias)


def of_runs(client: MlflowClient, name: str, run_ids: Sequence[str]) -> list[Version]:
    """The versions of a registered model that were made of these runs; none where there is no such model."""
    aliases = _aliases(client, name)
    found: list[ModelVersion] = []
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        ids = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + RUNS_AT_ONCE])
        with mlflow_errors_as_one_line():
            found += client.search_model_versions(f"name = '{name}' and run_id IN ({ids})", max_results=PAGE)
    return [_version(entry, aliases.get(int(entry.version), ())) for entry in found]


def with_tag(client: MlflowClient, name: str, key: str, value: str) -> Version | None:
    """The first version that carries a tag with this value; its aliases are not read."""
    with mlflow_errors_as_one_line():
        wanted = f"name = '{name}' and tags.`{key}` = '{value}'"
        found = client.search_model_versions(wanted, max_results=1, order_by=["version_number ASC"])
    return _version(found[0], ()) if found else None


def with_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    """The version that has an alias."""
    number = next((each for each, names in _aliases(client, name).items() if alias in names), None)
    return None if number is None else numbered(client, name, number)


def numbered(client: MlflowClient, name: str, number: int) -> Version | None:
    """The version with a number."""
    with mlflow_errors_as_one_line():
        wanted = f"name = '{name}' and version_number = {number}"
        found = client.search_model_versions(wanted, max_results=1)
    return _version(found[0], _aliases(client, name).get(number, ())) if found else None


def _entries(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    """All of them in pages that go on behind the last number: none moves to another page when one is deleted."""
    last = 0
    while True:
        with mlflow_errors_as_one_line():
            wanted = f"name = '{name}' and version_number > {last}"
            page = client.search_model_versions(wanted, max_results=PAGE, order_by=["version_number ASC"])
        yield from page
        if len(page) < PAGE:
            return
        last = int(page[-1].version)


def _aliases(client: MlflowClient, name: str) -> dict[int, tuple[str, ...]]:
    model = _registered_model(client, name)
    found: dict[int, list[str]] = {}
    for alias, number in (model.aliases if model else {}).items():
        found.setdefault(int(number), []).append(alias)
    return {number: tuple(sorted(names)) for number, names in found.items()}


def tags_of(client: MlflowClient, name: str) -> dict[str, str]:
    """The tags of a registered model; none where there is no such model."""
    model = _registered_model(client, name)
    return dict(model.tags) if model else {}


def _registered_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    with mlflow_errors_as_one_line():
        # Asked for by name, MLflow would read every version of it.
        if found := client.search_registered_models(f"name = '{name}'", max_results=1):
            return found[0]
        try:  # that there is none, or that it is not ours to see
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def version_of(client: MlflowClient, name: str, number: int | None, alias: str) -> Version:
    """The version with a number, or the one with an alias where no number is given.

    Raises:
        UsageError: there is none.
    """
    wanted = with_alias(client, name, alias) if number is None else numbered(client, name, number)
    if wanted is None:
        asked = f"version {number}" if number is not None else f"version with alias {alias!r}"
        found = newest(client, name, NAMED_AT_MOST + 1)
        older = ["…"] if len(found) > NAMED_AT_MOST else []
        numbers = sorted(version.number for version in found[:NAMED_AT_MOST])
        there = ", ".join([*older, *map(str, numbers)]) or "none"
        raise UsageError(f"{name} has no {asked} (versions: {there}): see `vggflow models`")
    return wanted


def find_candidate(registry: Registry, key: str) -> Version | None:
    """The candidate that was registered with this key, so that nothing is registered twice."""
    client, name = registry.client, registry.names.candidates
    found = with_tag(client, name, KEY, key)
    return found and numbered(client, name, found.number)


@dataclass(frozen=True)
class Described:
    """What a new version carries beside its file: tags, and a description for people."""

    tags: Mapping[str, str]
    description: str = ""


def create_candidate(registry: Registry, run_id: str, model: Path, described: Described) -> Version:
    """Logs a model file to its run and makes it a version of the candidates."""
    client, name = registry.client, registry.names.candidates
    with mlflow_errors_as_one_line():
        logged = _log_model(client, run_id, model)
        ensure_registered_model(client, name)
        created = client.create_model_version(
            name,
            logged.model_uri,
            run_id=run_id,
            model_id=logged.model_id,
            tags=dict(described.tags),
            description=limits.cut(described.description, limits.DESCRIPTION),
        )
        return _version(created, ())


def challenge(client: MlflowClient, version: Version) -> Version:
    """Gives a candidate the alias challenger."""
    with mlflow_errors_as_one_line():
        client.set_registered_model_alias(version.name, CHALLENGER, str(version.number))
    return replace(version, aliases=(CHALLENGER,))


@contextlib.contextmanager
def model_file(version: Version) -> Iterator[Path]:
    """The version's `.keras` file, downloaded for the time of the block and checked by its SHA-256.

    Raises:
        UnfitModel: the bytes are not the ones that were registered, or nothing says which ones these were.
    """
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        with mlflow_errors_as_one_line(), waiting_for_files(f"the model of {version.title}"):
            path = Path(mlflow.artifacts.download_artifacts(f"{version.uri}/{MODEL_FILE}", dst_path=folder))
        wanted = version.tags.get("sha256.model")
        if wanted is None:
            raise UnfitModel(
                f"{version.title} carries no sha256.model: it was not registered by "
                "`vggflow register`, which does that"
            )
        _refuse_other_bytes(version, "model", path, wanted)
        yield path


@contextlib.contextmanager
def graph_file(version: Version) -> Iterator[Path]:
    """The version's exported graph, downloaded for the time of the block and checked by its SHA-256.

    Raises:
        UnfitModel: the bytes are not the ones that were registered.
        VggflowError: it has none, as a version of before there were any.
    """
    with _downloaded(version, GRAPH) as path:
        _refuse_other_bytes(version, "graph", path, version.tags.get(GRAPH_SHA256, "no digest"))
        yield path


def _refuse_other_bytes(version: Version, what: str, path: Path, wanted: str) -> None:
    found = files.sha256(path) if path.is_file() else "no file"
    if found != wanted:
        raise UnfitModel(
            f"the stored {what} of {version.title} is damaged: sha256 {found[:16]}, "
            f"registered with {wanted[:16]}; register it again, or restore the artifact store"
        )


def training_manifest(version: Version) -> pd.DataFrame:
    """The manifest of the data that a version was trained on.

    Raises:
        EvidenceLost: the server answers and does not have it, or it is damaged.
        VggflowError: the server does not answer.
    """
    name = artifacts.MANIFEST.name
    _refuse_missing(version, LINEAGE, name)
    with _downloaded(version, f"{LINEAGE}/{name}") as path, _readable(version, name):
        return manifests.read(path)


def recorded_predictions(version: Version) -> pd.DataFrame:
    """The predictions table of a version's evaluation.

    Raises:
        VggflowError: it is not on the server, as with versions that somebody made by hand, or damaged.
    """
    name = artifacts.PREDICTIONS.name
    with _downloaded(version, f"evaluation/{name}") as path, _readable(version, name):
        return pd.read_parquet(path)


def _refuse_missing(version: Version, folder: str, name: str) -> None:
    """Tells a file that is gone from a server that does not answer."""
    with mlflow_errors_as_one_line(), waiting_for_files(f"the files of {version.title}"):
        place = "/".join(part for part in (version.tags.get(EVIDENCE), folder) if part)
        there = mlflow.artifacts.list_artifacts(run_id=version.run_id, artifact_path=place)
    if not any(Path(entry.path).name == name for entry in there):
        raise EvidenceLost(
            f"{name} of {version.title} is not in the artifact store: restore the store, or "
            "register the model again"
        )


@contextlib.contextmanager
def _readable(version: Version, name: str) -> Iterator[None]:
    """Turns what a damaged table raises into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        said = " ".join(str(error).split())[:200]
        raise EvidenceLost(
            f"{name} of {version.title} is damaged in the artifact store: {said}; "
            "restore the store, or register the model again"
        ) from error


def recorded_metrics(version: Version) -> dict[str, Any]:
    """The measures of a version's evaluation."""
    with _downloaded(version, f"evaluation/{artifacts.METRICS.name}") as path:
        content: dict[str, Any] = files.read_json(path)
        return content


def measured(version: Version) -> dict[str, float]:
    """The single numbers of a version's training run; none where the run is not there any more."""
    with mlflow_errors_as_one_line():
        try:
            return dict(MlflowClient().get_run(version.run_id).data.metrics)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return {}
            raise


def download_lineage(version: Version, folder: Path) -> None:
    """Puts the files that a version was computed from (settings, pipeline, `.dvc` files) into a workspace."""
    with _downloaded(version, LINEAGE) as path:
        for file in sorted(path.iterdir()):
            if file.name != artifacts.MANIFEST.name:
                shutil.copyfile(file, folder / file.name)


def ensure_registered_model(client: MlflowClient, name: str) -> None:
    """Makes the registered model where there is none."""
    # Whatever it was: if it was no lack of the model, making it says so.
    with contextlib.suppress(MlflowException):
        client.get_registered_model(name)
        return
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        # Somebody else may have made it in between.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_model(client: MlflowClient, run_id: str, model: Path) -> mlflow.models.model.ModelInfo:
    """Logs the file as a pyfunc that takes encoded images, without pickle: a loader module and the file."""
    info = read_info(model)
    # Named by hand: without an active run MLflow would put it into the default experiment, thus below `./mlruns`.
    place = client.get_run(run_id).info.experiment_id
    entry = client.create_logged_model(place, name="model", source_run_id=run_id)
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "label", required=False),
        *(ColSpec(DataType.double, f"p:{c}", required=False) for c in info.class_names),
        ColSpec(DataType.string, "error", required=False),
    ]
    # None of what is asked: MLflow holds a question against one form, and people send four (see `prediction.pyfunc`).
    signature = ModelSignature(outputs=Schema(outputs))
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        # MLflow keeps a file's own name, and `MODEL_FILE` counts on this one.
        named = Path(folder) / "model.keras"
        shutil.copyfile(model, named)
        # An input example would be predicted with at once, in the process that registers: TensorFlow for nothing.
        warnings.filterwarnings("ignore", message=".*input example was not provided.*")
        logged: mlflow.models.model.ModelInfo = Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=entry.model_id,
            loader_module=served_code.LOADER,
            data_path=str(named),
            code_paths=[str(served_code.copy(Path(folder)))],
            # Left out, MLflow would load the model to find out what it imports.
            pip_requirements=[f"{name}=={packages.installed(name)}" for name in served_code.REQUIREMENTS],
            signature=signature,
        )
        client.finalize_logged_model(entry.model_id, "READY")
        return logged


@contextlib.contextmanager
def _downloaded(version: Version, name: str) -> Iterator[Path]:
    """A file or folder of the version's evidence, there for the time of the block.

    Versions of before this was kept for each lack the tag: theirs lies at the top of their run.
    """
    place = version.tags.get(EVIDENCE)
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        with mlflow_errors_as_one_line(), waiting_for_files(f"{Path(name).name} of {version.title}"):
            path = mlflow.artifacts.download_artifacts(
                run_id=version.run_id, artifact_path=f"{place}/{name}" if place else name, dst_path=folder
            )
        yield Path(path)


def _version(entry: ModelVersion, aliases: tuple[str, ...]) -> Version:
    return Version(
        name=entry.name,
        number=int(entry.version),
        aliases=aliases,
        tags=dict(entry.tags),
        created_ms=int(entry.creation_timestamp),
        run_id=entry.run_id or "",
        model_id=entry.model_id or "",
        description=entry.description or "",
    )
