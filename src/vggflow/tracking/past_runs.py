"""The training runs of a workspace: listed, found by what a person calls them, and what became of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from vggflow.errors import UsageError, VggflowError
from vggflow.tracking.connection import mlflow_errors_as_one_line
from vggflow.tracking.registry import champions, model_versions
from vggflow.tracking.registry.model_versions import Version
from vggflow.tracking.registry.registry import Registry

# Tries of a settings search have another, and are found in the same experiment.
TRAINING = "tags.stage = 'train'"
SHORT = 8
# MLflow holds a page of runs in memory, with all their metrics: six for each class.
PAGE = 100
AN_ID = re.compile(r"[0-9a-f]{1,32}")
ID_LENGTH = 32


@dataclass(frozen=True)
class PastRun:
    """A training as MLflow has it. Of a run that is older, was killed or never evaluated, less is there.

    Attributes:
        run_id: Its id.
        status: FINISHED, FAILED, KILLED or RUNNING.
        started_ms: When it began, since 1970.
        ended_ms: When it ended; None where it has not.
        epochs: How many it completed, of all phases.
        params: Settings, and what the training found out before its first epoch.
        tags: Where it came from; of a run of before, as a version of it says.
        metrics: The last value of each.
        versions: What became of it: promoted ones first, then candidates, the newest first.
        chosen: The version by which a person named it; None where they named the run.
    """

    run_id: str
    status: str
    started_ms: int
    ended_ms: int | None
    epochs: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    versions: tuple[Version, ...] = ()
    chosen: Version | None = None

    @property
    def short(self) -> str:
        """As much of its id as people need."""
        return self.run_id[:SHORT]


def newest(registry: Registry, most: int) -> list[PastRun]:
    """The newest training runs of the workspace's experiment, newest first; none where there is no experiment."""
    experiment = _experiment(registry)
    if experiment is None:
        return []
    found: list[Run] = []
    token: str | None = None
    while len(found) < most:
        with mlflow_errors_as_one_line():
            page = registry.client.search_runs(
                [experiment], TRAINING, max_results=min(PAGE, most - len(found)), page_token=token
            )
        found += page
        token = page.token
        if not token:
            break
    versions = _versions(registry, [run.info.run_id for run in found])
    return [_past_run(run, versions.get(run.info.run_id, ())) for run in found]


def find(registry: Registry, name: str) -> PastRun:
    """The training run with an id that begins so.

    Raises:
        UsageError: there is none, or more than one; or it is no training, or another experiment's.
    """
    experiment = _experiment(registry)
    if not AN_ID.fullmatch(name):
        raise UsageError(
            f"no run {name!r}: expected the beginning of a run's id as `vggflow runs` lists them, champion, "
            "challenger, or a version such as 3 or candidate:3"
        )
    found = _beginning_with(registry, experiment, name) if experiment else []
    if len(found) > 1:
        ids = ", ".join(run.info.run_id[: len(name) + 4] for run in found[:3])
        raise UsageError(f"run {name!r} is ambiguous ({ids} …): give more of its id, see `vggflow runs`")
    if not found:
        elsewhere = _why_not(registry, experiment, name)
        raise UsageError(f"no training run {name!r} in experiment {registry.names.experiment!r}{elsewhere}")
    return _with_versions(registry, found[0])


def is_one(registry: Registry, beginning: str) -> bool:
    """Whether a training run's id begins so."""
    experiment = _experiment(registry)
    return bool(experiment and _beginning_with(registry, experiment, beginning))


def of_version(registry: Registry, version: Version) -> PastRun:
    """The run that a version was trained in.

    Raises:
        VggflowError: the server does not have it any more.
    """
    with mlflow_errors_as_one_line():
        try:
            # What somebody registered by hand may be of no run; asked for "" a server answers anything.
            run = registry.client.get_run(version.run_id or "none")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise VggflowError(
                f"the run of {version.title} ({version.run_id or 'none'}) is not on this MLflow any more: "
                "name another version or run, see `vggflow runs`"
            ) from None
    return _with_versions(registry, run, version)


def _experiment(registry: Registry) -> str | None:
    # Not `connection.experiment_id`, which makes one: who looks changes nothing.
    with mlflow_errors_as_one_line():
        found = registry.client.get_experiment_by_name(registry.names.experiment)
    return found.experiment_id if found and found.lifecycle_stage == "active" else None


def _beginning_with(registry: Registry, experiment: str, beginning: str) -> list[Run]:
    with mlflow_errors_as_one_line():
        wanted = f"{TRAINING} and attributes.run_id LIKE '{beginning}%'"
        return list(registry.client.search_runs([experiment], wanted, max_results=4))


def _why_not(registry: Registry, experiment: str | None, name: str) -> str:
    """What a run is that is none of this workspace's trainings, as the sentence goes on; and what to do."""
    if len(name) == ID_LENGTH:
        try:
            run = registry.client.get_run(name)
        except MlflowException:
            pass
        else:
            if run.info.lifecycle_stage == "deleted":
                return ": it was deleted; see `vggflow runs`"
            if run.info.experiment_id != experiment:
                return f": it is of experiment {_name_of(registry, run)!r}; see `vggflow runs`"
            stage = run.data.tags.get("stage", "something else")
            return f": it is no training but a run of {stage}; see `vggflow runs`"
    return ": see `vggflow runs`"


def _name_of(registry: Registry, run: Run) -> str:
    with mlflow_errors_as_one_line():
        return str(registry.client.get_experiment(run.info.experiment_id).name)


def _with_versions(registry: Registry, run: Run, chosen: Version | None = None) -> PastRun:
    run_id = run.info.run_id
    return _past_run(run, _versions(registry, [run_id]).get(run_id, ()), chosen)


def _past_run(run: Run, versions: tuple[Version, ...], chosen: Version | None = None) -> PastRun:
    lived = chosen or next(iter(versions), None)
    # A training of before kept where it came from in its files, which only a version of it brought here.
    tags = {**(lived.tags if lived else {}), **run.data.tags}
    return PastRun(
        run.info.run_id,
        run.info.status,
        run.info.start_time,
        run.info.end_time,
        _epochs(run),
        dict(run.data.params),
        tags,
        dict(run.data.metrics),
        versions,
        chosen,
    )


def _epochs(run: Run) -> int:
    """The step of the last point of `val_loss`: every epoch is one; 0 where none is over."""
    # Nothing public tells the step without a request for each run.
    points = getattr(run.data, "_metric_objs", ())
    return max((int(point.step) for point in points if point.key == "val_loss"), default=0)


def _versions(registry: Registry, run_ids: Sequence[str]) -> dict[str, tuple[Version, ...]]:
    """What became of runs, by their ids."""
    if not run_ids:
        return {}
    history = champions.read(registry)
    # What a killed promotion left is no champion.
    promoted = [v for v in history.versions if v not in history.claims and v not in history.lost]
    candidates = model_versions.of_runs(registry.client, registry.names.candidates, run_ids)
    found: dict[str, tuple[Version, ...]] = {}
    for version in [*_newest_first(promoted), *_newest_first(candidates)]:
        found[version.run_id] = (*found.get(version.run_id, ()), version)
    return found


def _newest_first(versions: Iterable[Version]) -> list[Version]:
    return sorted(versions, key=lambda version: -version.number)
