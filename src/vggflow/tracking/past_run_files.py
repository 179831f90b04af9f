"""The files of past runs: measures, answers per image, the images that were learned from; none where they are gone."""

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import mlflow
import pandas as pd

from vggflow import artifacts, files
from vggflow.data import manifest as manifests
from vggflow.errors import DataError, EvidenceLost
from vggflow.tracking import runs
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.past_runs import PastRun
from vggflow.tracking.reachable import waiting_for_files
from vggflow.tracking.registry.lineage import FOLDER as LINEAGE
from vggflow.tracking.registry.model_versions import EVIDENCE

Content = TypeVar("Content")


def measured(run: PastRun) -> dict[str, Any] | None:
    """The measures of the run's evaluation, of that of the version by which it was named; None where there are none.

    Raises:
        EvidenceLost: the file is damaged.
    """
    return _read(run, _evaluation(run) / artifacts.METRICS.name, files.read_json)


def predictions(run: PastRun) -> pd.DataFrame | None:
    """The answers of that evaluation to each image; None where there are none.

    Raises:
        EvidenceLost: the file is damaged.
    """
    return _read(run, _evaluation(run) / artifacts.PREDICTIONS.name, pd.read_parquet)


def trained_on(run: PastRun) -> pd.DataFrame | None:
    """The images that were learned from; None where neither the run nor a version of it keeps them.

    Raises:
        EvidenceLost: the file is damaged.
    """
    own = _read(run, PurePosixPath(runs.TRAINED_ON) / artifacts.TRAINING_IMAGES.name, manifests.read)
    if own is not None:
        return own
    for version in run.versions:  # a run of before has none of its own
        place = PurePosixPath(version.tags.get(EVIDENCE, "")) / LINEAGE / artifacts.MANIFEST.name
        whole = _read(run, place, manifests.read)
        if whole is not None:
            return manifests.training(whole)
    return None


def _evaluation(run: PastRun) -> PurePosixPath:
    place = run.chosen.tags.get(EVIDENCE, "") if run.chosen else ""
    return PurePosixPath(place) / runs.EVALUATION


def _read(run: PastRun, name: PurePosixPath, read: Callable[[Path], Content]) -> Content | None:
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder:
        with mlflow_errors_as_one_line(), waiting_for_files(f"{name.name} of run {run.short}"):
            there = mlflow.artifacts.list_artifacts(run_id=run.run_id, artifact_path=str(name.parent))
            # MLflow's error for a file that is not there is that for a store that fails.
            if not any(PurePosixPath(entry.path).name == name.name for entry in there):
                return None
            path = mlflow.artifacts.download_artifacts(
                run_id=run.run_id, artifact_path=str(name), dst_path=folder
            )
        try:
            return read(Path(path))
        except (DataError, OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
            said = " ".join(str(error).split())[:200]
            raise EvidenceLost(
                f"{name} of run {run.short} is damaged in the artifact store: {said}"
            ) from error
