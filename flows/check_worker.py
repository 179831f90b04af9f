"""The check-worker flow: what does a worker reach of all that a run needs? Asked by `vggflow deploy` and `doctor`."""

import asyncio
import os
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.deployments.steps.core import StepExecutionError, run_steps
from prefect.runtime import deployment
from prefect.states import Completed

from flows import run_page
from vggflow.commands import worker_checks
from vggflow.commands.findings import Finding
from vggflow.credentials import hidden_from_logs, hide_in
from vggflow.errors import VggflowError
from vggflow.workspace import find

# Patience is for nights: git that does not answer is what is asked here.
AT_ONCE = {"flows.checkout.bring": "flows.checkout.bring_at_once"}
Steps = list[dict[str, Any]]


@flow(
    name="check-worker",
    flow_run_name="check worker {asker}",
    persist_result=False,
    validate_parameters=True,
)
@hidden_from_logs()
def check_worker(steps: Steps, retrains: bool = False, asker: str = "") -> State[Any]:
    """Says what a worker reaches, in a table that is read by who asked.

    Args:
        steps: The pull steps of the place's deployments. They are taken here, and not before the run as theirs are,
            so that what fails in them is found like everything else.
        retrains: Whether retrainings run at the place.
        asker: The machine of who asks; empty where a person starts it in Prefect.
    """
    found = [*_reached(steps, retrains), *worker_checks.machine(asker)]
    rows = hide_in([each.to_dict() for each in found])
    create_table_artifact(rows, key=run_page.plain(deployment.name or "check-worker"))
    unwell = [f"{each['check']}: {each['found']}" for each in rows if each["health"] != "ok"]
    return Completed(name="Checked", message="; ".join(unwell) or "all is well")


def _reached(steps: Steps, retrains: bool) -> list[Finding]:
    brought = worker_checks.in_time(worker_checks.GIT, lambda: _bring(steps))
    if brought.health == "wrong":
        return [brought]
    return [brought, *worker_checks.examine(find(Path.cwd()), retrains=retrains)]


def _bring(steps: Steps) -> Finding:
    """The workspace is the folder of this process, as in any run."""
    steps = [{AT_ONCE.get(name, name): given for name, given in step.items()} for step in steps]
    try:
        output = asyncio.run(run_steps(steps))
        os.chdir(output.get("directory", "."))
        return worker_checks.git(find(Path.cwd()))
    except StepExecutionError as error:
        said = str(error.__cause__ or error).strip().splitlines()
        return Finding("workspace", "wrong", said[-1] if said else repr(error.__cause__))
    except VggflowError as error:
        return Finding("workspace", "wrong", str(error))
