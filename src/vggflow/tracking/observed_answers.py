"""What is kept of answers in production, in the experiment `NAME-answers`: a run per version, a file per batch or hour.

Whoever asks models writes there, from any machine; `vggflow drift` reads there.
"""

import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from vggflow import console
from vggflow.errors import DataError
from vggflow.prediction import observations
from vggflow.prediction.observations import Observations
from vggflow.settings import RegistrySettings
from vggflow.tracking import limits, runs
from vggflow.tracking.connection import experiment_id, mlflow_errors_as_one_line
from vggflow.tracking.registry.registry import Registry

VERSION = "answers.version"
FOLDER = "observed"
SUFFIX = ".parquet"
# A run of a version is made twice where two begin at once: then both are read.
RUNS_AT_MOST = 100
# A run for each version of the production model.
PAGE = 1_000
NEVER = date.min


def experiment(names: RegistrySettings) -> str:
    """The name of the experiment that holds them."""
    return f"{names.name}-answers"


def write(registry: Registry, version: str, found: Observations) -> None:
    """Adds a file to the run of a version.

    Args:
        registry: Where.
        version: As its title, `pets version 3`.
        found: What is kept of its answers.
    """
    name = f"{found.until:%Y-%m-%dT%H-%M-%S}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        path = Path(folder) / name
        observations.write(found, path)
        with mlflow_errors_as_one_line():
            run_id = _run(registry, version)
            # A folder a day, so that a look at a week lists a week.
            registry.client.log_artifact(run_id, str(path), f"{FOLDER}/{found.until:%Y-%m-%d}")


def read(registry: Registry, version: str, since: datetime) -> list[Observations]:
    """All of a version's that came after a moment; a damaged file is said and left out."""
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder, mlflow_errors_as_one_line():
        return list(_read(registry, version, since, Path(folder)))


def write_look(registry: Registry, version: str, measured: Mapping[str, float], page: Path) -> str:
    """Adds what a look for drift found to the run of a version, with its page; returns the run's id.

    Args:
        registry: Where.
        version: As its title.
        measured: Names and numbers; a new value of a metric stands behind those of before.
        page: What people read.
    """
    with mlflow_errors_as_one_line():
        run_id = _run(registry, version)
        for name, value in measured.items():
            registry.client.log_metric(run_id, runs.metric_key(name), value)
        registry.client.log_artifact(run_id, str(page), "drift")
        return run_id


def days_before(registry: Registry, day: date) -> list[tuple[str, str]]:
    """Folders of days before this one, of all versions: each by its run's id and its place there."""
    with mlflow_errors_as_one_line():
        place = registry.client.get_experiment_by_name(experiment(registry.names))
        if place is None:
            return []
        found = registry.client.search_runs([place.experiment_id], max_results=PAGE)
        return [
            (run.info.run_id, folder.path)
            for run in found
            for folder in registry.client.list_artifacts(run.info.run_id, FOLDER)
            if NEVER < _date(folder.path) < day
        ]


def remove(registry: Registry, days: Sequence[tuple[str, str]]) -> None:
    """Deletes the files of such folders."""
    with mlflow_errors_as_one_line():
        for run_id, path in days:
            uri = f"{registry.client.get_run(run_id).info.artifact_uri}/{path}"
            get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]


def _run(registry: Registry, version: str) -> str:
    """The run of a version; made where there is none."""
    for run in _runs(registry, version):
        return str(run.info.run_id)
    place = experiment_id(registry.client, experiment(registry.names))
    named = limits.cut(version, limits.RUN_NAME)
    return str(registry.client.create_run(place, run_name=named, tags={VERSION: version}).info.run_id)


def _runs(registry: Registry, version: str) -> list[Run]:
    place = registry.client.get_experiment_by_name(experiment(registry.names))
    if place is None or place.lifecycle_stage == "deleted":
        return []
    wanted = f"tags.`{VERSION}` = '{version}'"  # names hold letters, digits, dashes
    order = ["attributes.start_time ASC"]
    return list(
        registry.client.search_runs([place.experiment_id], wanted, max_results=RUNS_AT_MOST, order_by=order)
    )


def _read(registry: Registry, version: str, since: datetime, folder: Path) -> Iterator[Observations]:
    for run in _runs(registry, version):
        for day in registry.client.list_artifacts(run.info.run_id, FOLDER):
            if _date(day.path) < since.astimezone(UTC).date():
                continue
            for file in registry.client.list_artifacts(run.info.run_id, day.path):
                path = registry.client.download_artifacts(run.info.run_id, file.path, str(folder))
                try:
                    found = observations.read(Path(path))
                except DataError as error:
                    console.tell(str(error))
                    continue
                if found.until >= since:
                    yield found


def _date(path: str) -> date:
    try:
        return date.fromisoformat(PurePosixPath(path).name)
    except ValueError:  # somebody else's: nothing of it is read
        return NEVER
