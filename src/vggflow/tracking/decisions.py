"""Every decision about promotion, refusals too, as a run of the experiment `NAME-promotions`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from vggflow.settings import RegistrySettings
from vggflow.tracking.connection import answering, experiment_id

OUTCOME = "decision.outcome"
QUESTION = "decision.question"


def experiment(registry: RegistrySettings) -> str:
    """The name of the experiment that holds the decisions."""
    return f"{registry.name}-promotions"


def record(client: MlflowClient, registry: RegistrySettings, name: str, tags: Mapping[str, str]) -> str:
    """Opens the run of a decision and returns its id."""
    with answering():
        place = experiment_id(client, experiment(registry))
        return str(client.create_run(place, run_name=name, tags=dict(tags)).info.run_id)


def conclude(
    client: MlflowClient,
    run_id: str,
    outcome: str,
    numbers: Mapping[str, float],
    documents: Mapping[str, Any],
) -> None:
    """Writes the outcome, its numbers and its documents (texts, or paths of files), and closes the run."""
    with answering():
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, 0, 0) for key, value in numbers.items()],
            tags=[RunTag(OUTCOME, outcome)],
        )
        for name, document in documents.items():
            if isinstance(document, Path):
                client.log_artifact(run_id, str(document))
            else:
                client.log_text(run_id, document, name)
        client.set_terminated(run_id)


def answered(client: MlflowClient, registry: RegistrySettings, question: str) -> tuple[str, str] | None:
    """The outcome and run id of the same question (same models, images and rules), if it was answered before."""
    with answering():
        place = experiment_id(client, experiment(registry))
        found = client.search_runs(
            [place], f"tags.`{QUESTION}` = '{question}' and attributes.status = 'FINISHED'", max_results=1
        )
    return (str(found[0].data.tags[OUTCOME]), str(found[0].info.run_id)) if found else None
