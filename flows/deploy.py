"""`vggflow deploy`: applies a workspace's `prefect.yaml` to the server and says what will run when and where."""

import asyncio
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse

from flows import automations, deployable, deployments, work_pools
from flows.events import DRIFT, NEW_DATA
from flows.identity import Identity, identity
from vggflow.errors import UsageError, VggflowError
from vggflow.processes.work_place import WorkPlace
from vggflow.workspace import Workspace

FILE = "prefect.yaml"
NEWS = {NEW_DATA: "on new data", DRIFT: "on drift"}


@dataclass(frozen=True)
class Deployed:
    """What the server knows now: the workspace, a row per deployment, and the names of its automations.

    `silent` names the automations that the file has and that tell nobody, `served` and `unserved` the places where
    workers ask for work and where none does; `note` says what workers will lack.
    """

    here: Identity
    rows: list[dict[str, Any]]
    automations: list[str]
    silent: list[str]
    served: list[WorkPlace]
    unserved: list[WorkPlace]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "workspace": self.here.name,
            "place": self.here.place,
            "deployments": self.rows,
            "automations": self.automations,
            "silent": self.silent,
            "served": [asdict(place) for place in self.served],
            "unserved": [asdict(place) for place in self.unserved],
            "note": self.note,
        }


def deploy(workspace: Workspace) -> Deployed:
    """Applies deployments, triggers and automations; run again, it changes only what changed.

    Raises:
        UsageError: no server is named, another workspace of the same name is deployed there, workers could not clone
            the branch, or the file gives a flow what it does not take.
        VggflowError: Prefect refused what the file says.
    """
    if "PREFECT_API_URL" not in os.environ:
        raise UsageError(
            "no Prefect server to deploy to: set PREFECT_API_URL, or start one with `vggflow up`"
        )
    content = yaml.safe_load((workspace.root / FILE).read_text("utf-8"))
    deployable.check_file(content, workspace.root)
    here = identity(workspace)
    deployable.check_branch(workspace, here)
    asyncio.run(_prepare(here, _pools(content)))
    _apply_file(workspace)
    made = asyncio.run(_finish(here, content.get("automations") or []))
    return replace(made, note=deployable.not_pushed(workspace, here))


def _pools(content: dict[str, Any]) -> set[str]:
    """The work pools that the file names."""
    places = [deployment.get("work_pool") or {} for deployment in content.get("deployments") or []]
    return {place["name"] for place in places if place.get("name")}


async def _prepare(here: Identity, pools: set[str]) -> None:
    """Pools, their queues and the workspace's limit are there, and nobody else goes by this name."""
    async with get_client() as client:
        for deployment in await deployments.of_workspace(client, here):
            _refuse_another(here, deployment)
        for pool in sorted(pools):
            await work_pools.ensure(client, pool)
        await client.upsert_global_concurrency_limit_by_name(here.limit, 1)


def _refuse_another(here: Identity, deployment: DeploymentResponse) -> None:
    steps = [inputs for step in deployment.pull_steps or [] for inputs in step.values()]
    places = {step.get("repository") or step.get("folder") for step in steps} - {None}
    if places and here.place not in places:
        raise UsageError(
            f"{deployment.name} on this server works on {places.pop()}, this workspace is {here.place}: rename one "
            "of them; where this one was moved, delete its old deployments in Prefect first"
        )


def _apply_file(workspace: Workspace) -> None:
    """Prefect's own `prefect deploy`, so that the file means what Prefect's documentation says."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", FILE]
    done = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # Prefect draws frames around what it says.
        said = [line.strip(" │╭╰╮╯─") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise VggflowError(f"`prefect deploy` failed in {workspace.root}: {' '.join(said[-3:])}")


async def _finish(here: Identity, wanted: list[dict[str, Any]]) -> Deployed:
    async with get_client() as client:
        made = await automations.apply(client, here, wanted)
        deployed = await deployments.of_workspace(client, here)
        rows = [_row(deployment, await _events(client, deployment)) for deployment in deployed]
        served, unserved = await work_pools.who_serves(client, deployments.places(deployed))
    silent = [spec["name"] for spec in wanted if automations.title(spec["name"], here) not in made]
    return Deployed(here, rows, made, silent, served, unserved)


async def _events(client: PrefectClient, deployment: DeploymentResponse) -> set[str]:
    """The events that start a deployment."""
    found = await client.read_resource_related_automations(f"prefect.deployment.{deployment.id}")
    return {
        event
        for automation in found
        if automation.enabled and any(_starts(action, deployment) for action in automation.actions)
        for event in getattr(automation.trigger, "expect", ())
    }


def _starts(action: Any, deployment: DeploymentResponse) -> bool:
    return bool(action.type == "run-deployment" and action.deployment_id == deployment.id)


def _row(deployment: DeploymentResponse, events: set[str]) -> dict[str, Any]:
    limit = deployment.global_concurrency_limit.limit if deployment.global_concurrency_limit else None
    options = deployment.concurrency_options
    return {
        "deployment": deployment.name,
        "when": _when(deployment, events),
        "where": f"{deployment.work_pool_name} / {deployment.work_queue_name}",
        "at once": f"{limit}, then {options.collision_strategy.value.lower()}"
        if limit and options
        else "any",
        "paused": deployment.paused,
    }


def _when(deployment: DeploymentResponse, events: set[str]) -> str:
    """Schedules and events in words; deployments without either start by hand."""
    times = [
        f"{getattr(each.schedule, 'cron', None) or getattr(each.schedule, 'interval', each.schedule)} "
        f"{getattr(each.schedule, 'timezone', None) or 'UTC'}"
        for each in deployment.schedules
        if each.active
    ]
    news = [NEWS.get(event, f"on {event}") for event in sorted(events)]
    return "; ".join([*times, *news]) or "by hand"
