"""The search flow, by hand: tries settings and shows what is better; a person applies it."""

import json
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import own_process, run_name, run_page
from flows.retrain import bring_data, step, validate
from flows.run_lock import run_lock
from vggflow.credentials import hidden_from_logs
from vggflow.errors import VggflowError
from vggflow.workspace import Workspace, find

Trials = Annotated[int, Field(ge=1, title="Trials", description="Of the first phase, on cached features.")]
NetworkTrials = Annotated[
    int, Field(ge=0, title="Network trials", description="Whole trainings that try the later phases.")
]
Minutes = Annotated[float, Field(gt=0, title="Minutes", description="Begin no trial after so many.")]


@step("search")
def try_settings(workspace: Workspace, trials: int, network_trials: int, minutes: float) -> dict[str, Any]:
    """What came of the trials.

    Raises:
        CommandFailed: they did not come to their end; those that did are kept, and gone on with.
    """
    options = {"--trials": trials, "--network-trials": network_trials, "--minutes": minutes}
    arguments = [part for name, value in options.items() for part in (name, str(value))]
    found: dict[str, Any] = json.loads(own_process.run(workspace, ["search", "--json", *arguments]))
    run_page.show_search(workspace, found)
    return found


@flow(name="search", flow_run_name=run_name.run_name, persist_result=False, validate_parameters=True)
@hidden_from_logs()
def search(
    trials: Trials = 60, network_trials: NetworkTrials = 6, minutes: Minutes = 480, workspace: str = "."
) -> State[Any]:
    """Tries settings on the data of now, and shows the best ones; trains no model and changes none.

    Args:
        trials: Of the first phase, on cached features.
        network_trials: Whole trainings that try the later phases.
        minutes: Begin no trial after so many.
        workspace: The folder of the workspace.
    """
    here = find(Path(workspace))
    try:
        # Not for the hours of the trials: a retraining need only wait for the device.
        with run_lock(here):
            bring_data(here)
            validate(here)
        found = try_settings(here, trials, network_trials, minutes)
    except VggflowError as error:
        name = "Refused" if error.exit_code == 3 else "Failed"
        state: State[Any] = Failed(name=name, message=str(error), data=error)
        run_page.show_summary(here, state, [])
        return state
    name = "Better settings" if found["changes"] else "Nothing better"
    state = Completed(
        name=name, message=f"{found['trials']:,} trials on {found['valid_images']:,} images of valid"
    )
    run_page.show_summary(here, state, [_how_to_apply(found)])
    return state


def _how_to_apply(found: dict[str, Any]) -> str:
    if not found["changes"]:
        return "The settings are as good as any that were tried."
    rows = "\n".join(f"| {name} | {value} |" for name, value in found["changes"].items())
    return (
        f"| setting | better |\n|---|---|\n{rows}\n\n"
        "Nothing was changed: write them into params.yaml, or let `vggflow search --apply` do it where the same data "
        f"is. Trials: MLflow run `{found['run_id']}`."
    )
