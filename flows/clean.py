"""Prefect forgets old runs of a workspace: those that are over, beyond the newest of each flow."""

import asyncio
from itertools import count
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.identity import identity
from vggflow.workspace import Workspace

PAGE = 200
OVER = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def clean(workspace: Workspace, keep: int, *, dry_run: bool) -> dict[str, int]:
    """Deletes flow runs, with their task runs and logs; returns how many, as `flow_runs`."""
    return {"flow_runs": asyncio.run(_clean(identity(workspace).name, keep, dry_run))}


async def _clean(name: str, keep: int, dry_run: bool) -> int:
    async with get_client() as client:
        seen: dict[Any, int] = {}
        old = []
        for run in await _over(client, name):
            seen[run.flow_id] = seen.get(run.flow_id, 0) + 1
            if seen[run.flow_id] > keep:
                old.append(run)
        if not dry_run:
            for run in old:
                await client.delete_flow_run(run.id)
        return len(old)


async def _over(client: PrefectClient, name: str) -> list[FlowRun]:
    """All runs of the workspace that are over, newest first."""
    wanted = FlowRunFilter.model_validate({"tags": {"all_": [name]}, "state": {"type": {"any_": OVER}}})
    found: list[FlowRun] = []
    for page in count():
        runs = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=PAGE, offset=page * PAGE
        )
        found += runs
        if len(runs) < PAGE:
            return found
    return found
