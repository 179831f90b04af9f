"""What the server knows about a workspace: last runs, next runs, who waits, and whether anybody works."""

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows import deployments, work_pools
from flows.identity import Identity, identity
from vggflow.workspace import Workspace

SHOWN = 5
# Hourly checks would push the night's retraining off the screen.
SHOWN_OF_CHECKS = 1
CHECKS = FlowFilter.model_validate({"name": {"any_": ["check-data"]}})
OTHERS = FlowFilter.model_validate({"name": {"any_": ["retrain", "promote", "rollback"]}})


def server_status(workspace: Workspace) -> dict[str, Any]:
    """Ready for JSON: `runs`, `next`, `queue` (lists of runs), `workers` (how many are online), and the places where
    these are `served` or `unserved`."""
    return asyncio.run(_ask(identity(workspace)))


async def _ask(here: Identity) -> dict[str, Any]:
    tag = here.tag
    async with get_client() as client:
        ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
        waiting = {"type": {"any_": ["RUNNING", "PENDING", "PAUSED", "CANCELLING"]}}
        # All are of the type SCHEDULED, as planned runs are: only the name tells that they are due.
        held_up = {"name": {"any_": ["Late", "AwaitingConcurrencySlot", "AwaitingRetry"]}}
        planned = {"name": {"any_": ["Scheduled"]}}
        queue = [
            *await _runs(client, tag, waiting, FlowRunSort.START_TIME_ASC),
            *await _runs(client, tag, held_up, FlowRunSort.EXPECTED_START_TIME_ASC),
        ]
        deployed = await deployments.of_workspace(client, here)
        pools = {each.work_pool_name for each in deployed if each.work_pool_name}
        served, unserved = await work_pools.who_serves(client, deployments.places(deployed))
        return {
            "runs": await _last(client, tag, ended),
            "queue": queue,
            "next": await _next(client, tag, planned),
            "workers": sum([await work_pools.online(client, pool) for pool in pools]),
            "served": [asdict(place) for place in served],
            "unserved": [asdict(place) for place in unserved],
        }


async def _last(client: PrefectClient, tag: str, ended: dict[str, Any]) -> list[dict[str, Any]]:
    """What changed or judged models, then the last look for data."""
    by_time = FlowRunSort.EXPECTED_START_TIME_DESC
    runs = await _runs(client, tag, ended, by_time, flows=OTHERS)
    return runs + await _runs(client, tag, ended, by_time, SHOWN_OF_CHECKS, CHECKS)


async def _runs(
    client: PrefectClient,
    tag: str,
    state: dict[str, Any],
    sort: FlowRunSort,
    limit: int = SHOWN,
    flows: FlowFilter | None = None,
) -> list[dict[str, Any]]:
    wanted = FlowRunFilter.model_validate({"tags": {"all_": [tag]}, "state": state})
    found = await client.read_flow_runs(flow_filter=flows, flow_run_filter=wanted, sort=sort, limit=limit)
    return [_row(run) for run in found]


async def _next(client: PrefectClient, tag: str, planned: dict[str, Any]) -> list[dict[str, Any]]:
    """The next run of each deployment."""
    runs = await _runs(client, tag, planned, FlowRunSort.EXPECTED_START_TIME_ASC, 100)
    first: dict[str, dict[str, Any]] = {}
    names = {run["deployment_id"]: "" for run in runs}
    for key in names:
        names[key] = (await client.read_deployment(key)).name if key else "by hand"
    for run in runs:
        first.setdefault(names[run["deployment_id"]], run | {"run": names[run["deployment_id"]]})
    return list(first.values())


def _row(run: FlowRun) -> dict[str, Any]:
    state = run.state
    return {
        "run": run.name,
        "state": state.name if state else "",
        "message": (state.message or "") if state else "",
        "at": _iso(run.start_time or run.expected_start_time),
        "seconds": round(run.total_run_time.total_seconds()),
        "deployment_id": str(run.deployment_id or ""),
    }


def _iso(time: datetime | None) -> str:
    return time.astimezone().isoformat(timespec="seconds") if time else ""
