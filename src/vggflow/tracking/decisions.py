"""Every decision about promotion, refusals too, as a run of the experiment `NAME-promotions`.

A run is recorded whole before anything is done about it; only its outcome is added afterwards. So whoever comes
after a killed promoter can tell from the champion's versions what became of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from vggflow.settings import RegistrySettings
from vggflow.tracking.connection import answering, experiment_id
from vggflow.tracking.registry import Version
from vggflow.tracking.reports import address_for_people

OUTCOME = "decision.outcome"
QUESTION = "decision.question"
TESTS = "decision.tests"
VERDICT = "decision.verdict"
ROLLED_BACK = "rolled back"
SAYS = ": "  # between what was asked and the outcome, in the name of a run
# On a version: the runs of the decisions that it was promoted and rolled back by.
RUN = "promotion.run"
ROLLBACK_RUN = "rollback.run"


def experiment(registry: RegistrySettings) -> str:
    """The name of the experiment that holds the decisions."""
    return f"{registry.name}-promotions"


def record(
    client: MlflowClient,
    registry: RegistrySettings,
    name: str,
    tags: Mapping[str, str],
    documents: Mapping[str, Any] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> str:
    """Opens the run of a decision with its numbers and documents (texts, or paths of files); returns its id."""
    with answering():
        place = experiment_id(client, experiment(registry))
        run_id = str(client.create_run(place, run_name=name, tags=dict(tags)).info.run_id)
        client.log_batch(run_id, metrics=[Metric(key, value, 0, 0) for key, value in (numbers or {}).items()])
        for file_name, document in (documents or {}).items():
            if isinstance(document, Path):
                client.log_artifact(run_id, str(document))
            else:
                client.log_text(run_id, document, file_name)
        return run_id


def place(client: MlflowClient, registry: RegistrySettings, run_id: str) -> str:
    """Where people find the record: its page, or the run's name where the server has no pages."""
    base = address_for_people()
    if not base:
        return f"MLflow run {run_id} of experiment {experiment(registry)}"
    with answering():
        number = client.get_run(run_id).info.experiment_id
    return f"{base}/#/experiments/{number}/runs/{run_id}"


def conclude(client: MlflowClient, run_id: str, outcome: str) -> None:
    """Writes down what became of a decision, and closes its run."""
    with answering():
        name = client.get_run(run_id).info.run_name.partition(SAYS)[0]
        tags = [RunTag(OUTCOME, outcome), RunTag(MLFLOW_RUN_NAME, f"{name}{SAYS}{outcome}")]
        client.log_batch(run_id, tags=tags)
        client.set_terminated(run_id)


def complete(client: MlflowClient, version: Version | None, outcome: str) -> bool:
    """Concludes the decision that promoted a version, or rolled it back, if it was killed before it could.

    Returns:
        Whether there was something to conclude.
    """
    run_id = version.tags.get(ROLLBACK_RUN if outcome == ROLLED_BACK else RUN) if version else None
    if run_id is None:
        return False
    with answering():
        run = client.get_run(run_id)
    if OUTCOME in run.data.tags and run.info.status != "RUNNING":
        return False
    conclude(client, run_id, outcome)
    return True


def answered(client: MlflowClient, registry: RegistrySettings, question: str) -> tuple[str, str] | None:
    """The outcome and run id of the same question (same models, images and rules), if it was answered before."""
    found = _search(
        client, registry, f"tags.`{QUESTION}` = '{question}' and attributes.status = 'FINISHED'", 1
    )
    return (str(found[0].data.tags[OUTCOME]), str(found[0].info.run_id)) if found else None


def served(client: MlflowClient, registry: RegistrySettings, tests: str) -> int:
    """How many decisions the same test images have served before, up to 1,000."""
    return len(_search(client, registry, f"tags.`{TESTS}` = '{tests}'", 1000))


def _search(client: MlflowClient, registry: RegistrySettings, query: str, most: int) -> list[Run]:
    with answering():
        place = experiment_id(client, experiment(registry))
        return list(client.search_runs([place], query, max_results=most))
