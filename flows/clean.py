"""Prefect forgets old runs of a workspace and their artifacts: what is over, beyond the newest of each flow."""

import asyncio
from itertools import count
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.identity import identity
from vggflow.workspace import Workspace

PAGE = 200
OVER = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def clean(workspace: Workspace, keep: int, *, dry_run: bool) -> dict[str, int]:
    """Deletes flow runs, with their task runs, logs and artifacts; returns how many, as `flow_runs`."""
    return {"flow_runs": asyncio.run(_clean(identity(workspace).tag, keep, dry_run))}


async def _clean(tag: str, keep: int, dry_run: bool) -> int:
    async with get_client() as client:
        seen: dict[Any, int] = {}
        old = []
        for run in await _over(client, tag):
            seen[run.flow_id] = seen.get(run.flow_id, 0) + 1
            if seen[run.flow_id] > keep:
                old.append(run)
        if not dry_run:
            for run in old:
                await _forget_artifacts(client, run)
                await client.delete_flow_run(run.id)
        return len(old)


async def _forget_artifacts(client: PrefectClient, run: FlowRun) -> None:
    """Prefect keeps the artifacts of a run that is deleted."""
    wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}})
    while found := await client.read_artifacts(artifact_filter=wanted, limit=PAGE):
        for artifact in found:
            await client.delete_artifact(artifact.id)


async def _over(client: PrefectClient, tag: str) -> list[FlowRun]:
    """All runs of the workspace that are over, newest first."""
    wanted = FlowRunFilter.model_validate({"tags": {"all_": [tag]}, "state": {"type": {"any_": OVER}}})
    found: list[FlowRun] = []
    for page in count():
        runs = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=PAGE, offset=page * PAGE
        )
        found += runs
        if len(runs) < PAGE:
            return found
    return found
