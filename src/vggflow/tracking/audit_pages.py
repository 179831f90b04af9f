"""The page and the table of an audit in MLflow, where people can read them after the clone that made them is gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vggflow.tracking import connection, runs
from vggflow.tracking.gate_pages import address_for_people
from vggflow.workspace import Workspace

FOLDER = "audit"
# What was audited: the same again is not kept a second time.
SUBJECT = "audit.subject"


@dataclass(frozen=True)
class Pages:
    """Addresses for a browser by what is there; none where MLflow has no server."""

    links: Mapping[str, str]
    run_id: str


def publish(
    workspace: Workspace, name: str, subject: str, paths: Sequence[Path], numbers: Mapping[str, float]
) -> Pages:
    """Puts files and numbers into a run of their own, once for each subject.

    Args:
        workspace: Whose.
        name: What a new run is called.
        subject: A digest of all that was audited and by what.
        paths: The page, the table.
        numbers: How much was found.
    """
    registry = connection.connect(workspace)
    client, place = registry.client, connection.experiment_id(registry.client, registry.names.experiment)
    with connection.mlflow_errors_as_one_line():
        # One that was killed before it ended may lack files.
        wanted = f"tags.`{SUBJECT}` = '{subject}' and attributes.status = 'FINISHED'"
        known = client.search_runs([place], wanted, max_results=1)
    if known:
        run_id = str(known[0].info.run_id)
    else:
        run_id = runs.open_run(client, place, name, {"stage": FOLDER, SUBJECT: subject})
        runs.log_numbers(client, run_id, numbers)
        runs.log_files(client, run_id, paths, FOLDER)
        runs.end_run(client, run_id)
    base = address_for_people()
    at = f"{base}/#/experiments/{place}/runs/{run_id}"
    files = {path.name: f"{at}/artifacts/{FOLDER}/{path.name}" for path in paths}
    return Pages({"MLflow run": at, **files} if base else {}, run_id)
