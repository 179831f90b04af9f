"""`vggflow deploy`: applies a workspace's `prefect.yaml` to the server and says what will run when and where."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows import automations
from flows.identity import TAG, Identity, identity
from vggflow.errors import UsageError, VggflowError
from vggflow.workspace import Workspace

FILE = "prefect.yaml"
POOL = "vggflow"
QUEUES = ("cpu", "gpu")


@dataclass(frozen=True)
class Deployed:
    """What the server knows now: the workspace, a row per deployment, and the names of its automations."""

    here: Identity
    rows: list[dict[str, Any]]
    automations: list[str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "workspace": self.here.name,
            "place": self.here.place,
            "deployments": self.rows,
            "automations": self.automations,
        }


def deploy(workspace: Workspace) -> Deployed:
    """Applies deployments, triggers and automations; run again, it changes only what changed.

    Raises:
        UsageError: no server is named, or another workspace of the same name is deployed there.
        VggflowError: Prefect refused what the file says.
    """
    if "PREFECT_API_URL" not in os.environ:
        raise UsageError(
            "no Prefect server to deploy to: set PREFECT_API_URL, or start one with `vggflow up`"
        )
    content = yaml.safe_load((workspace.root / FILE).read_text("utf-8"))
    here = identity(workspace)
    asyncio.run(_prepare(here))
    _apply_file(workspace)
    return asyncio.run(_finish(here, content.get("automations") or []))


async def _prepare(here: Identity) -> None:
    """The pool, its queues and the workspace's limit are there, and nobody else goes by this name."""
    async with get_client() as client:
        for deployment in await _deployments(client, here):
            _refuse_another(here, deployment)
        await _ensure_pool(client)
        await client.upsert_global_concurrency_limit_by_name(here.limit, 1)


async def _ensure_pool(client: PrefectClient) -> None:
    """A process pool, unless somebody made another kind of pool of this name."""
    try:
        await client.read_work_pool(POOL)
    except ObjectNotFound:
        template = json.loads((files("vggflow") / "template" / "pools" / f"{POOL}.json").read_text("utf-8"))
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    for queue in QUEUES:
        try:
            await client.create_work_queue(queue, work_pool_name=POOL)
        except ObjectAlreadyExists:
            continue


def _refuse_another(here: Identity, deployment: DeploymentResponse) -> None:
    steps = [inputs for step in deployment.pull_steps or [] for inputs in step.values()]
    places = {step.get("repository") or step.get("folder") for step in steps} - {None}
    if places and here.place not in places:
        raise UsageError(
            f"{deployment.name} on this server works on {places.pop()}, this workspace is {here.place}: "
            "rename one of them, or delete that deployment first"
        )


def _apply_file(workspace: Workspace) -> None:
    """Prefect's own `prefect deploy`, so that the file means what Prefect's documentation says."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", FILE]
    done = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line.strip(" │╭╰╮╯─") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise VggflowError(f"`prefect deploy` failed in {workspace.root}: {' '.join(said[-3:])}")


async def _finish(here: Identity, wanted: list[dict[str, Any]]) -> Deployed:
    async with get_client() as client:
        made = await automations.apply(client, here, wanted)
        rows = [_row(deployment) for deployment in await _deployments(client, here)]
    return Deployed(here, rows, made)


async def _deployments(client: PrefectClient, here: Identity) -> list[DeploymentResponse]:
    """This workspace's deployments, by name."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [TAG, here.tag]}})
    return await client.read_deployments(deployment_filter=tagged, limit=200, sort=DeploymentSort.NAME_ASC)


def _row(deployment: DeploymentResponse) -> dict[str, Any]:
    limit = deployment.global_concurrency_limit.limit if deployment.global_concurrency_limit else None
    options = deployment.concurrency_options
    return {
        "deployment": deployment.name,
        "when": _when(deployment),
        "where": f"{deployment.work_pool_name} / {deployment.work_queue_name}",
        "at once": f"{limit}, then {options.collision_strategy.value.lower()}"
        if limit and options
        else "any",
        "paused": deployment.paused,
    }


def _when(deployment: DeploymentResponse) -> str:
    """The schedules in words; deployments without one start by event or by hand."""
    times = [
        f"{getattr(each.schedule, 'cron', None) or getattr(each.schedule, 'interval', each.schedule)} "
        f"{getattr(each.schedule, 'timezone', None) or 'UTC'}"
        for each in deployment.schedules
        if each.active
    ]
    if times:
        return "; ".join(times)
    return "on new data" if "new-data" in deployment.name else "by hand"
