"""Every decision about promotion, refusals too, as a run of the experiment `NAME-promotions`.

A run is recorded whole before anything is done about it; only its outcome is added afterwards. So whoever comes
after a killed promoter can tell from the history what became of it, and concludes what it left open.
"""

import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from vggflow import files
from vggflow.settings import RegistrySettings
from vggflow.tracking.connection import experiment_id, mlflow_errors_as_one_line
from vggflow.tracking.gate_pages import address_for_people
from vggflow.tracking.registry.champions import Champions
from vggflow.tracking.registry.registry import Registry
from vggflow.tracking.runs import metric_key

OUTCOME = "decision.outcome"
QUESTION = "decision.question"
TESTS = "decision.tests"
VERDICT = "decision.verdict"
ERROR = "decision.error"
PROCESS = "decision.process"
TO, MADE = "to", "to.created_ms"
PROMOTED, ROLLED_BACK, RELEASED, ABANDONED = "promoted", "rolled back", "released", "abandoned"
SAYS = ": "  # between what was asked and the outcome, in the name of a run
# The runs of the decisions that a version was promoted and rolled back by.
RUN = "promotion.run"
ROLLBACK_RUN = "rollback.run"
DECISION = "decision.json"
# Between its record and its outcome a command needs seconds.
LONGEST_S = 3600
SAME_START_S = 5
# What MLflow takes or gives at once.
PAGE = 1_000
MOST_SINGLE = 100


def experiment(names: RegistrySettings) -> str:
    """The name of the experiment that holds the decisions."""
    return f"{names.name}-promotions"


def record(
    registry: Registry,
    name: str,
    tags: Mapping[str, str],
    documents: Mapping[str, Any] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> str:
    """Opens the run of a decision with its numbers and documents (texts, or paths of files); returns its id."""
    with mlflow_errors_as_one_line():
        place = experiment_id(registry.client, experiment(registry.names))
        about = {**tags, PROCESS: _process()}
        run_id = str(registry.client.create_run(place, run_name=name, tags=about).info.run_id)
        _measure(registry.client, run_id, numbers or {})
        for file_name, document in (documents or {}).items():
            if isinstance(document, Path):
                registry.client.log_artifact(run_id, str(document))
            else:
                registry.client.log_text(run_id, document, file_name)
        return run_id


def _measure(client: MlflowClient, run_id: str, numbers: Mapping[str, float]) -> None:
    """Writes metrics down: one by one, and where a thousand classes have two each, in batches.

    A batch takes two of MLflow's connections to its database, so many promoters at once would wait for each other.
    """
    now = int(time.time() * 1000)
    measured = [Metric(metric_key(key), value, now, 0) for key, value in numbers.items()]
    if len(measured) <= MOST_SINGLE:
        for each in measured:
            client.log_metric(run_id, each.key, each.value)
        return
    for start in range(0, len(measured), PAGE):
        client.log_batch(run_id, metrics=measured[start : start + PAGE])


def place(registry: Registry, run_id: str) -> str:
    """Where people find the record: its page, or the run's name where the server has no pages."""
    base = address_for_people()
    if not base:
        return f"MLflow run {run_id} of experiment {experiment(registry.names)}"
    with mlflow_errors_as_one_line():
        number = registry.client.get_run(run_id).info.experiment_id
    return f"{base}/#/experiments/{number}/runs/{run_id}"


def decision(registry: Registry, run_id: str) -> dict[str, Any]:
    """The decision that a run recorded, as `Decision.to_dict` gave it."""
    with tempfile.TemporaryDirectory(prefix="vggflow-") as folder, mlflow_errors_as_one_line():
        path = registry.client.download_artifacts(run_id, DECISION, folder)
        content: dict[str, Any] = files.read_json(Path(path))
        return content


def conclude(
    registry: Registry,
    run_id: str,
    outcome: str,
    status: str = "FINISHED",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes down what became of a decision, and closes its run."""
    with mlflow_errors_as_one_line():
        name = registry.client.get_run(run_id).info.run_name.partition(SAYS)[0]
        # Not as a batch: for one MLflow takes two connections to its database, and many at once wait for each other.
        for key, value in {
            **(facts or {}),
            MLFLOW_RUN_NAME: f"{name}{SAYS}{outcome}",
            OUTCOME: outcome,
        }.items():
            registry.client.set_tag(run_id, key, value)
        registry.client.set_terminated(run_id, status)


def conclude_open(registry: Registry, history: Champions) -> dict[str, str]:
    """Concludes what killed commands left open: by what the history says that they did, else as abandoned.

    A command that is still at work is left alone, where that can be told; it has the last word in any case.

    Returns:
        The runs that were concluded and their outcomes.
    """
    done = dict(_done(history))
    concluded = {}
    # Also those that were given up: what they had claimed may have been done by another since.
    for run in _search(registry, "attributes.status != 'FINISHED'"):
        run_id = str(run.info.run_id)
        at_work = _is_at_work(run)
        if at_work:
            continue
        if run_id in done:
            concluded[run_id] = done[run_id][0]
            conclude(registry, run_id, done[run_id][0], facts=done[run_id][1])
        # False, not None: of a process on another machine only the run's age tells.
        elif run.info.status == "RUNNING" and (at_work is False or _is_old(run)):
            said = run.data.tags.get(OUTCOME)  # killed between its last two writes
            concluded[run_id] = said or ABANDONED
            conclude(registry, run_id, concluded[run_id], "FINISHED" if said else "KILLED")
    return concluded


def answered(registry: Registry, question: str) -> tuple[str, str] | None:
    """The outcome and run id of the same question (same models, images and rules), if it was answered before."""
    query = f"tags.`{QUESTION}` = '{question}' and attributes.status = 'FINISHED'"
    found = _search(registry, query, most=1)
    return (str(found[0].data.tags[OUTCOME]), str(found[0].info.run_id)) if found else None


def served(registry: Registry, tests: str) -> int:
    """How many decisions the same test images have served before; what a kill cut off does not count."""
    return len(_search(registry, f"tags.`{TESTS}` = '{tests}' and attributes.status = 'FINISHED'"))


def promotions(registry: Registry) -> dict[int, dict[str, str]]:
    """What is recorded of each version that was promoted, also of deleted ones."""
    found = _search(registry, f"tags.`{OUTCOME}` = '{PROMOTED}'")
    # Trainers write to this experiment too, so these tags may hold anything.
    named = [
        run.data.tags for run in found if all(run.data.tags.get(key, "").isdecimal() for key in (TO, MADE))
    ]
    return {int(tags[TO]): tags for tags in named}


def _done(history: Champions) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
    """The runs that acts name, with outcome and what more is known now."""
    for version in history.promoted_versions:
        if RUN in version.tags:
            yield version.tags[RUN], (PROMOTED, promotion_facts(version.number, version.created_ms))
    for each in history.rollbacks:
        if "run" in each.facts:
            yield each.facts["run"], (ROLLED_BACK, {})
        if each.release and "run" in each.release:
            yield each.release["run"], (RELEASED, {})


def promotion_facts(number: int, created_ms: int) -> dict[str, str]:
    """What a promotion's record says of the version that it made, which may be deleted one day."""
    return {TO: str(number), MADE: str(created_ms)}


def _process() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time():.0f}"


def _is_at_work(run: Run) -> bool | None:
    """Whether the process that opened a run is still there; nothing where that can't be told, on another machine."""
    said = re.fullmatch(r"(\S+) (\d+) (\d+)", run.data.tags.get(PROCESS, ""))
    if said is None or said[1] != socket.gethostname():
        return None
    try:  # Linux counts a start from the boot, whose time moves by a second when the clock is set
        return abs(psutil.Process(int(said[2])).create_time() - int(said[3])) <= SAME_START_S
    except psutil.NoSuchProcess:
        return False


def _is_old(run: Run) -> bool:
    return bool(time.time() - run.info.start_time / 1000 > LONGEST_S)


def _search(registry: Registry, query: str, most: int | None = None) -> list[Run]:
    """The newest first, all unless `most` are wanted; none where the experiment was not made yet."""
    with mlflow_errors_as_one_line():
        place = registry.client.get_experiment_by_name(experiment(registry.names))
        if place is None:
            return []
        found: list[Run] = []
        token: str | None = None
        while True:
            page = registry.client.search_runs(
                [place.experiment_id], query, max_results=most or PAGE, page_token=token
            )
            found += page
            token = page.token
            if most or not token:
                return found
