"""What MLflow may forget: candidates and runs that no alias, no champion and none of the newest candidates needs."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from vggflow.environment import SQLITE
from vggflow.errors import VggflowError
from vggflow.processes.stage import last_error_line
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.registry.model_versions import Version, versions
from vggflow.tracking.registry.registry import Registry
from vggflow.tracking.search_runs import SEARCH, TRIAL

# Linux takes arguments of 128 KiB at most.
IDS_OF_A_COMMAND = 1_000


@dataclass(frozen=True)
class Old:
    """What may go.

    Attributes:
        versions: Candidate versions, oldest first.
        runs: Runs that belong to none of the versions that stay, of each kind but the newest.
        models: Ids of the logged models of these runs.
        size_bytes: What their files take; None where they lie on a server.
    """

    versions: tuple[Version, ...]
    runs: tuple[str, ...]
    models: tuple[str, ...]
    size_bytes: int | None


def old(registry: Registry, keep: int) -> Old:
    """What goes when the `keep` newest candidates and runs stay.

    Every version of the production model stays, with its run and its file: they are the history and what a
    rollback goes back to.
    """
    client, names = registry.client, registry.names
    production, candidates = versions(client, names.name), versions(client, names.candidates)
    # `[-0:]` is everything.
    newest = candidates[-keep:] if keep else []
    needed = {version.run_id for version in [*production, *newest]}
    gone = [v for v in candidates if v not in newest and not v.aliases and v.run_id not in needed]
    # Versions may share a run: it stays as long as one of them does.
    needed |= {version.run_id for version in candidates if version not in gone}
    runs = [run for run in _beyond(_ended(client, names.experiment), keep) if run.info.run_id not in needed]
    ids = [run.info.run_id for run in runs]
    models = tuple(str(model_id) for run in runs for model_id in _models(run))
    return Old(tuple(gone), tuple(ids), models, _size(client, runs, models))


def remove(registry: Registry, found: Old) -> None:
    """Deletes versions, then files, then runs; a kill in between leaves nothing that the next call does not find."""
    client = registry.client
    with mlflow_errors_as_one_line():
        for version in found.versions:
            client.delete_model_version(version.name, str(version.number))
        for uri in _places(client, found.runs, found.models):
            get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]
        for model in found.models:
            with _gone_is_fine():
                client.delete_logged_model(model)
        for run in found.runs:
            with _gone_is_fine():
                client.delete_run(run)
    _purge(str(client.tracking_uri), found)


def _ended(client: MlflowClient, experiment: str) -> list[Run]:
    """The runs of the experiment that are over, newest first."""
    with mlflow_errors_as_one_line():
        place = client.get_experiment_by_name(experiment)
        if place is None:
            return []
        found: list[Run] = []
        token: str | None = None
        while True:
            page = client.search_runs(
                [place.experiment_id], "attributes.status != 'RUNNING'", page_token=token, max_results=1000
            )
            found.extend(page)
            token = page.token
            if not token:
                return found


def _beyond(runs: Sequence[Run], keep: int) -> list[Run]:
    """Of each kind of run all but the newest; trials of a search stay and go with it.

    Else the hundred trials of one search would take the places of all trainings.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(run.data.tags.get("stage", ""), []).append(run)
    trials = kinds.pop(TRIAL, [])
    gone = [run for of_kind in kinds.values() for run in of_kind[keep:]]
    stay = {run.info.run_id for run in kinds.get(SEARCH, ())[:keep]}
    return gone + [run for run in trials if run.data.tags.get(MLFLOW_PARENT_RUN_ID) not in stay]


def _models(run: Run) -> list[str]:
    outputs = run.outputs.model_outputs if run.outputs else []
    return [output.model_id for output in outputs]


def _places(client: MlflowClient, runs: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    for run in runs:
        yield str(client.get_run(run).info.artifact_uri)
    for model in models:
        with _gone_is_fine():
            yield str(client.get_logged_model(model).artifact_location)


def _size(client: MlflowClient, runs: Sequence[Run], models: Sequence[str]) -> int | None:
    total = 0
    with mlflow_errors_as_one_line():
        for uri in _places(client, [run.info.run_id for run in runs], models):
            if not uri.startswith(("file:", "/")):
                return None
            folder = Path(url2pathname(urlsplit(uri).path))
            total += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return total


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _purge(uri: str, found: Old) -> None:
    """MLflow only marks as deleted. Where the database is ours, its own `gc` removes what was marked."""
    if not uri.startswith(SQLITE) or not (found.runs or found.models):
        return
    parts = (_parts(found.runs), _parts(found.models))
    for runs, models in itertools.zip_longest(*parts, fillvalue=()):
        _collect(uri, runs, models)


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    """So many at a time as a command line takes."""
    return [ids[start : start + IDS_OF_A_COMMAND] for start in range(0, len(ids), IDS_OF_A_COMMAND)]


def _collect(uri: str, runs: Sequence[str], models: Sequence[str]) -> None:
    """Both kinds in one command: of a kind that is not named, `mlflow gc` takes everything that is marked."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
    for option, ids in (("--run-ids", runs), ("--logged-model-ids", models)):
        command += [option, ",".join(ids)] if ids else []
    # `mlflow gc` demands it beside the option.
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = last_error_line(done)
        raise VggflowError(f"`mlflow gc` failed on {uri}: {said}; what was deleted is only marked as such")
